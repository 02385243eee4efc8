"""The records of a run: what each of its state files is called, and what it holds.

A record is written by one process and read by others. Records of clusters, which later runs read
too, are in `state/clusterrecords.py`. A change of a field needs a higher `FORMAT` in
`state/codec.py`. Pure: no record knows how it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from pytest_kindinfra.model import (
    PATIENCE,
    BuiltImage,
    Endpoint,
    EndpointSpec,
    EngineName,
    KubeObject,
)
from pytest_kindinfra.names import copy_name
from pytest_kindinfra.state.codec import Note
from pytest_kindinfra.state.results import Failed, Result

if TYPE_CHECKING:
    from pytest_kindinfra.model import Cluster, Plan


# -- what a run brings up: results, each of them settled once ----------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade(Result):
    """What a run is going to bring up.

    Attributes:
        services: Their names, in the order of their needs; `web.gw0` is a worker's copy.
        engine: The engine's name; `auto` where the reader must choose.
        env: The declared variables, templates not yet filled.
    """

    FILE: ClassVar[str] = "plan"

    services: tuple[str, ...]
    engine: EngineName = "auto"
    env: dict[str, str] = field(default_factory=dict)

    def own(self, service: str, worker: str) -> str:
        """Return what a worker has under a declared name: its copy if there is one.

        Args:
            service: A declared service, or a copy's whole name.
            worker: The worker; empty without xdist.
        """
        copy = copy_name(service, worker)
        return copy if copy in self.services else service

    @classmethod
    def of(cls, plan: Plan, *, engine: str) -> Self:
        """Return the record of a plan; the engine is called by its name."""
        names = tuple(service.name for service in plan.services)
        return cls(
            services=names, engine=cast("EngineName", engine), env=dict(plan.declaration.env)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReady(Result):
    """A cluster in which pods can run."""

    FILE: ClassVar[str] = "cluster"

    name: str
    kubeconfig: Path
    namespace: str

    @classmethod
    def of(cls, cluster: Cluster, *, namespace: str) -> Self:
        """Return the result of a cluster, with the namespace in which services are deployed."""
        return cls(name=cluster.name, kubeconfig=cluster.kubeconfig, namespace=namespace)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReady(Result):
    """A service whose endpoints have answered; in the order of declaration."""

    FILE: ClassVar[str] = "service-"

    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLost(Failed, Result):
    """Why the cluster is gone: a kind node or the engine ended; there is none while all is well."""

    FILE: ClassVar[str] = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFailed(Failed, Result):
    """Why an image is missing."""

    FILE: ClassVar[str] = "broken-"


# -- what else a run leaves ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs(Note):
    """What the selected tests of one process need.

    Attributes:
        services: Name to the ids of the first tests that ask for it.
        tests: How many tests need something.
        problems: A sentence for each mark that makes no sense.
        turns: Some tests may not run in parallel to others.
    """

    FILE: ClassVar[str] = "request-"

    services: dict[str, tuple[str, ...]]
    tests: int
    problems: tuple[str, ...] = ()
    turns: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReady(Note):
    """An image that the engine has."""

    FILE: ClassVar[str] = "image-"

    image: BuiltImage


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLoaded(Note):
    """Under which reference pods run an image, where that is not its own."""

    FILE: ClassVar[str] = "runs-as-"

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClosed(Note):
    """Nothing more will come: waiters give up."""

    FILE: ClassVar[str] = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Note):
    """A process has stopped at a failed test, for `--kindinfra-pause`.

    Attributes:
        test: Its node id, and the phase that failed.
        services: Those that it names.
        evidence: The folder with what is kept of it.
    """

    FILE: ClassVar[str] = "paused-"

    test: str
    services: tuple[str, ...] = ()
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOver(Note):
    """The tests go on after a pause; there is no further pause in the run."""

    FILE: ClassVar[str] = "pause-over"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUsed(Note):
    """The cache folder of a run, and what is wrong with it."""

    FILE: ClassVar[str] = "memory"

    folder: Path
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState(Note):
    """What git says of the project.

    Attributes:
        commit: The full hash of HEAD.
        dirty: Files differ from it, or are new and not ignored; None if git did not say.
    """

    FILE: ClassVar[str] = "git"

    commit: str
    dirty: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramVersions(Note):
    """The engine and kind of a run, as they call themselves."""

    FILE: ClassVar[str] = "versions"

    engine: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesVersion(Note):
    """The version of the cluster's API server, `v1.34.4`; None if it did not say."""

    FILE: ClassVar[str] = "kubernetes"

    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotUsed(Note):
    """The snapshot that the run's cluster was restored from.

    Attributes:
        reference: Its name in the engine.
        id: The engine's id of it.
        age_days: How old it was.
    """

    FILE: ClassVar[str] = "snapshot"

    reference: str
    id: str
    age_days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectsApplied(Note):
    """Where a run may have put objects in an existing cluster: namespaces, and kinds by path."""

    FILE: ClassVar[str] = "put-there"

    namespaces: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnceDone(Note):
    """What a call of `kindinfra_once` came to.

    Attributes:
        key: The call's name.
        value: What it returned, as JSON has it.
        error: What it raised; None if it returned.
    """

    FILE: ClassVar[str] = "once-"

    key: str
    value: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedByTest(Note):
    """An image that a test had loaded into the cluster."""

    FILE: ClassVar[str] = "loaded-"

    reference: str


# -- what tests must know of each other and of services, to run in parallel and to change them -----


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a test needs to have for itself while it runs.

    Attributes:
        locks: Names of locks; no two tests with the same one run at the same time.
        exclusive: No other marked test runs meanwhile.
        weight: How much of the capacity it takes.
    """

    locks: tuple[str, ...] = ()
    exclusive: bool = False
    weight: int = 1

    def text(self) -> str:
        """Return it in words: `lock "db"`, `exclusive`, `weight 2`."""
        words = [f'lock "{name}"' for name in self.locks]
        words += ["exclusive"] if self.exclusive else []
        words += [f"weight {self.weight}"] if self.weight > 1 else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A test in the queue.

    Attributes:
        number: Its place; lower ones go first.
        turn: What it needs.
        test: Its node id.
        holder: The process that runs it.
        since: When it asked, in seconds since the epoch.
        granted: It runs.
    """

    number: int
    turn: Turn
    test: str
    holder: str
    since: float
    granted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnQueue(Note):
    """The tests that run or wait for their turns, in all processes of the run."""

    FILE: ClassVar[str] = "turns"

    tickets: tuple[Ticket, ...] = ()


ChangeKind = Literal["scaled", "disturbed", "applied", "broken"]
"""`scaled`: other replicas; `disturbed`: pods were replaced, and may not be ready again; `applied`:
objects of a test; `broken`: undoing failed, so the service is not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Note):
    """Something that a test changed in the cluster and that is not undone yet.

    Attributes:
        kind: What was done.
        service: Whose objects; empty for objects of the test's own.
        test: The test's node id.
        holder: The process that made it.
        number: Which of that process's changes.
        data: What is needed to undo it.
    """

    FILE: ClassVar[str] = "change-"

    kind: ChangeKind
    service: str
    test: str
    holder: str
    number: int
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Which of the run's changes it is; in the order of their making within a process."""
        return f"{self.holder}.{self.number:06}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedPods:
    """The pods with these labels, and a port that each of them has, by number or name."""

    namespace: str
    labels: dict[str, str]
    port: int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How an endpoint was asked, so that it can be asked again.

    Attributes:
        spec: The declared endpoint.
        host: The address of this host on which it is reached.
        host_port: The port of this host.
        node_address: The kind node's address; None where there is none.
        node_port: The NodePort there; 0 where there is none.
        behind: The pods that a port-forward leads to; None where there is no port-forward.
        virtual_host: What requests say in their header `Host`; empty if that is `host`.
    """

    spec: EndpointSpec
    host: str
    host_port: int
    node_address: str | None = None
    node_port: int = 0
    behind: ProbedPods | None = None
    virtual_host: str = ""

    @property
    def node(self) -> tuple[str, int] | None:
        """The kind node's address and the NodePort; None where there is none."""
        return (self.node_address, self.node_port) if self.node_address else None

    def endpoint(self, service: str) -> Endpoint:
        """Return the endpoint as tests get it."""
        return Endpoint(
            service=service,
            name=self.spec.name,
            scheme=self.spec.scheme,
            host=self.host,
            port=self.host_port,
            virtual_host=self.virtual_host,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedService(Note):
    """What a test process must know of a service to change it and see it whole again.

    Written once when it was deployed, before the result that says that it is ready. Values of
    objects, such as those of Secrets, are not in it.

    Attributes:
        service: Its name.
        namespace: Where objects are that name none.
        objects: Of each object apiVersion, kind, and of its metadata name and namespace; without
            a chart's hooks, which helm may have deleted.
        probes: Its endpoints.
        restarts: Restarts of a container that are no failure.
        patience: Seconds for a trouble that may pass by itself.
        timeout: Seconds until it must be ready.
        ready: What its custom resources must say, as in the declaration.
        run: Its Python step, empty if it has none.
        needs: The services that it needs.
        references: Declared image to the reference that pods run.
        names: Declared image to further references in manifests that mean it.
        written: External references to what pods run in their place.
        loaded: External references that are in the kind nodes as they are.
        images_at: Where its custom resources name their images, as in the declaration.
        content: The hash of its objects, as it is in their pod templates.
    """

    FILE: ClassVar[str] = "deployed-"

    service: str
    namespace: str
    objects: tuple[KubeObject, ...] = ()
    probes: tuple[Probe, ...] = ()
    restarts: int = 2
    patience: float = PATIENCE
    timeout: float = 600.0
    ready: tuple[tuple[str, str], ...] = ()
    run: str = ""
    needs: tuple[str, ...] = ()
    references: dict[str, str] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    loaded: tuple[str, ...] = ()
    images_at: tuple[tuple[str, str], ...] = ()
    content: str = ""

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of its objects."""
        found = {obj["metadata"].get("namespace") for obj in self.objects}
        return sorted({self.namespace, *found} - {None, ""})

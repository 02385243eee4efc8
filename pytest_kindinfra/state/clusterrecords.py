"""The records of a cluster: whose it is to delete, what it was created with, what it holds.

They are written into a run directory or into the directory of a reused cluster, and read by later
runs and commands. A change of a field needs a higher `FORMAT` in `state/codec.py`. Pure: no record
knows how it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pytest_kindinfra.model import Endpoint, KubeObject
from pytest_kindinfra.state.codec import Note

# -- what is noted of a cluster, in the run directory or in that of a reused cluster -------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNamed(Note):
    """From here on a cluster of that name is the folder's to delete."""

    FILE: ClassVar[str] = "cluster-name"

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterKept(Note):
    """The cluster was kept on purpose, or made to its end for reuse: it is no garbage."""

    FILE: ClassVar[str] = "kept"

    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepBegun(Note):
    """The cluster of a dead run is being deleted."""

    FILE: ClassVar[str] = "swept"

    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedCluster(Note):
    """The reused directory of a run's cluster, and whether the cluster was there before the run."""

    FILE: ClassVar[str] = "reused-cluster"

    path: Path
    existed: bool


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
class DeployedTo(Note):
    """Where runs with reuse have put objects in an existing cluster.

    Attributes:
        run_id: The id in the labels of their objects: that of the first such run.
        namespace: Where objects are that name none.
    """

    FILE: ClassVar[str] = "deployed-to"

    run_id: str
    namespace: str


# -- what a reused directory holds --------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedBy(Note):
    """Who holds the lock of a reused cluster, for the message to those that wait."""

    FILE: ClassVar[str] = "user"

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint(Note):
    """What a cluster was made with.

    Attributes:
        config: A hash of the user's kind config.
        node_image: The node image, or whose choice it was.
        tuning: A hash of our patches; empty without them.
        ports: `SERVICE.ENDPOINT` to its NodePort, for all that ever had one.
        spare: NodePorts that are mapped for endpoints that come later.
    """

    FILE: ClassVar[str] = "made"

    config: str
    node_image: str
    tuning: str
    ports: dict[str, int]
    spare: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedRelease:
    """The release of a service's chart."""

    name: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed(Note):
    """The deployed state of one service in a reused cluster.

    Attributes:
        ready: It was ready when it was last brought up.
        content: A hash of its objects as written, and of what its images were.
        step: A hash of what its Python step reads; empty if it must run each time.
        generation: Another one each time when something of the service, or of what it needs,
            changed.
        needs: The services that it needs, to their generations at that time.
        objects: Its objects by `reused.identity`, without those of a chart.
        charted: Those of a chart.
        release: The chart's release; None without one.
        uids: `reused.key` of an object to the uid that it had.
        returned: The objects that its Python step returned.
        endpoints: As in the service's result.
        source: The folder of the declaration that has it; `hook` if a hook added it.
    """

    FILE: ClassVar[str] = "applied-"

    ready: bool = False
    content: str = ""
    step: str = ""
    generation: str = ""
    needs: dict[str, str] = field(default_factory=dict)
    objects: tuple[KubeObject, ...] = ()
    charted: tuple[KubeObject, ...] = ()
    release: DeployedRelease | None = None
    uids: dict[str, str] = field(default_factory=dict)
    returned: tuple[KubeObject, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    source: str = ""

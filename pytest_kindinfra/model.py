"""The records that the steps hand to each other: what was declared, and what came of it.

Frozen, without behaviour beyond their own fields, and free of I/O: this module must not
know pytest, an engine or a cluster. The words are those of docs/glossary.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registry in a container.

    Attributes:
        container: The container's name, by which others in its networks find it.
        address: What this host pushes to, and what pods name: `localhost:5001`.
        port: The port that it listens to in its container.
    """

    container: str
    address: str
    port: int

    @property
    def inside(self) -> str:
        """Its address in the networks that it has joined: `kind-registry:5000`."""
        return f"{self.container}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesInUse:
    """What becomes of image references in manifests.

    Attributes:
        written: Reference as written to the reference of this run.
        loaded: External references that are in the kind nodes: never pulled again.
        declared: Declared name to the reference of this run, for `${image:NAME}`.
    """

    written: Mapping[str, str]
    loaded: frozenset[str]
    declared: Mapping[str, str]


RUN_LABEL = "dev.kindinfra/run"
SERVICE_LABEL = "dev.kindinfra/service"
WORKER_LABEL = "dev.kindinfra/worker"
TEST_LABEL = "dev.kindinfra/test"
CONTENT_LABEL = "dev.kindinfra/content"
"""Labels of objects: a run's id, a service's name, the worker whose copy it is, a test's namespace,
a Helm release's content."""
IMAGE_LABEL = "dev.kindinfra.image"
REGISTRY_LABEL = "dev.kindinfra.registry"
SNAPSHOT_LABEL = "dev.kindinfra.snapshot"
"""Labels of what the engine has: the declared name of an image, the registry's container, what a
snapshot holds."""


Level = Literal["applied", "started", "ready"]
Scheme = Literal["tcp", "http", "https", "grpc"]
EngineName = Literal["auto", "docker", "podman"]
"""The choices of the option; each but `auto` is a module in `engines/` with its class, `ENGINE`."""
Load = Literal["auto", "archive", "delta", "registry"]
SnapshotUse = Literal["auto", "off"]
Expose = Literal["port-forward", "node-port", "load-balancer", "ingress", "in-cluster"]


PATIENCE = 45.0
"""Seconds for which a trouble that may pass by itself is no failure, unless a service says so.

The kubelet tries to pull again after 10 s and 20 s more, each up to 5 s late, and to mount after
0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s."""


KubeObject = dict[str, Any]
"""One Kubernetes object as parsed from YAML."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A container image that services run, as declared in `[images.NAME]`.

    Attributes:
        name: What manifests call it: `image: NAME`.
        context: The build context, a folder.
        dockerfile: None means `Dockerfile` in the context.
        target: The stage to build, None for the last.
        build_args: Sorted pairs of name and value, environment references not yet expanded.
        needs: Names of declared images that this one starts FROM.
        exclusive: No other build runs in parallel to this one.
        weight: How many builds it counts as; more than may run at a time count as all.
        timeout: Seconds for its build; None means `--kindinfra-timeout`.
        names: Further references in manifests that mean this image.
        build_options: Further flags of `docker buildx build`; part of the tag.
        ignore: Patterns added to those of the ignore file.
        prebuilt: A reference that exists already: nothing is built.
        archive: An image archive to load: nothing is built.
    """

    name: str
    context: Path = Path()
    dockerfile: Path | None = None
    target: str | None = None
    build_args: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    exclusive: bool = False
    weight: int = 1
    timeout: float | None = None
    names: tuple[str, ...] = ()
    build_options: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    prebuilt: str | None = None
    archive: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSpec:
    """A port of a service that tests dial, as declared in `endpoints.NAME`.

    Attributes:
        name: The endpoint's name within its service.
        port: The k8s service's port: a number or a port's name.
        scheme: How it is spoken to.
        path: The health path of an http endpoint; must answer 2xx or 3xx.
        service: The k8s service's name; None means the service's own name.
        workload: `KIND/NAME` instead of a k8s service: a container's port.
        host_port: A fixed port on 127.0.0.1; None means a free one.
        node_port: A fixed NodePort; None means one that we allot.
        send: What a tcp probe sends.
        expect: What a tcp probe's answer must start with.
        expose: How tests reach it; None means what suits the cluster.
        address: Where its Ingress is reached, `HOST[:PORT]`; None means what the Ingress says.
    """

    name: str
    port: int | str
    scheme: Scheme = "http"
    path: str | None = None
    service: str | None = None
    workload: str | None = None
    host_port: int | None = None
    node_port: int | None = None
    send: str | None = None
    expect: str | None = None
    expose: Expose | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An edge of the graph: a service name and how far that one must be."""

    name: str
    level: Level = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Helm:
    """A chart that is installed as a release, as declared in `helm` of a service.

    Attributes:
        chart: A folder with a Chart.yaml, or an archive of one; the chart's name if there is
            `repo`; or `oci://...`.
        values: Files of values, the later ones going before the earlier.
        set: Values that go before those of all files, nested as a values file has them.
        release: The release's name; None means the service's.
        namespace: Where it goes; None means `[cluster] namespace`.
        repo: The URL of the chart's repository; None for a file, a folder or a registry.
        version: The chart's, needed with `repo` and `oci://`.
    """

    chart: Path | str
    values: tuple[Path, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    release: str | None = None
    namespace: str | None = None
    repo: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a test asks for by name, as declared in `[services.NAME]`.

    Attributes:
        name: What marks and needs call it.
        images: Names of declared images that its manifests run.
        manifests: Files or glob patterns, relative to the declaration's folder or absolute.
        needs: What must be there first.
        timeout: Seconds until ready; None means `--kindinfra-timeout`.
        restarts: Container restarts that are no failure.
        patience: Seconds for which a trouble that may pass by itself is no failure.
        endpoints: In the order of declaration; the first is the default one.
        run: `module:function`, a Python step that gets the stack.
        inputs: Files or patterns that the run step reads.
        kustomize: A folder with a kustomization.
        helm: A chart.
        helm_first: The chart is installed before all else is applied, not after.
        ready: For custom resources: pairs of a kind and what its objects must say, such as
            `("Widget", "condition=Ready")`.
        images_at: For custom resources: pairs of a kind and the path to what its objects run, such
            as `("Widget", "spec.template")`.
        sources: Key to value of kinds of sources that have no field of their own here.
        before: `nodes` for a service that the nodes need to get Ready, such as a network plugin:
            it is deployed as soon as the API server answers, in each run. None means after that.
        per: `worker` if each xdist worker has a copy of its own; None for one that all share.
        worker: Whose copy it is, as plans have it; empty for what was declared.
    """

    name: str
    images: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    timeout: float | None = None
    restarts: int = 2
    patience: float = PATIENCE
    endpoints: tuple[EndpointSpec, ...] = ()
    run: str | None = None
    inputs: tuple[str, ...] = ()
    kustomize: Path | None = None
    helm: Helm | None = None
    helm_first: bool = False
    ready: tuple[tuple[str, str], ...] = ()
    images_at: tuple[tuple[str, str], ...] = ()
    sources: dict[str, Any] = field(default_factory=dict)
    before: Literal["nodes"] | None = None
    per: Literal["worker"] | None = None
    worker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """What was declared about the cluster in `[cluster]`.

    Attributes:
        config: A kind config to start from.
        node_image: None means kind's own choice.
        namespace: Where services go; `per-run` is a new one for each run.
        ttl: Seconds for which a namespace that a run makes in an existing cluster may stay.
        quota: The resources that it may use there: pairs as in a ResourceQuota's `hard`.
        tuning: Boot faster than kind does.
        registry: The address of a registry of the user's on this host, `localhost:5001`; None
            means the plugin's own, where one is asked for.
        snapshot: Whether a cluster may boot from a snapshot, and the first one leave it.
    """

    config: Path | None = None
    node_image: str | None = None
    namespace: str = "default"
    ttl: float = 86400.0
    quota: tuple[tuple[str, str], ...] = ()
    tuning: bool = True
    registry: str | None = None
    snapshot: SnapshotUse = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """Everything that a project declared.

    Attributes:
        folder: Where the declaration lives; relative paths start here.
        source: The file's name for messages; None if there is no file.
        registry: Where images are looked up and pushed to, `HOST[:PORT][/PREFIX]`; None for none.
        builder: The builder of docker buildx that builds the images; None for the engine's own.
        env: Variables for tests, as pairs of a name and a text with words in braces, sorted.
        options: The `[options]` table, keys without prefix, values as TOML gave them.
        from_hooks: The names of the services that hooks added; another run may not load them.
    """

    folder: Path
    source: str | None = None
    cluster: ClusterSpec = field(default_factory=ClusterSpec)
    images: tuple[Image, ...] = ()
    services: tuple[Service, ...] = ()
    registry: str | None = None
    builder: str | None = None
    env: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    from_hooks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapping:
    """A NodePort in the kind node and the port on the host that leads to it.

    Attributes:
        service: The service's name; empty for a spare mapping.
        endpoint: The endpoint's name; empty for a spare mapping.
        node_port: The NodePort.
        host_port: The port on 127.0.0.1; None means a free one, chosen when the cluster is made.
        in_manifest: The k8s service has that nodePort already; else another k8s service is added.
    """

    service: str
    endpoint: str
    node_port: int
    host_port: int | None
    in_manifest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A chart that was rendered once, and is to be installed.

    Attributes:
        name: The release's.
        namespace: Where it goes.
        chart: What helm is given: the declared chart, or a copy of it with its dependencies.
        values: Files of values, as declared, absolute.
        set: Values that go before those of the files.
        objects: What the chart made when it was rendered, hooks too.
        content: A hash of what it is made from: charts may render otherwise each time.
        mentions: Names of images in `${image:NAME}` of values.
        version: The version of helm: `3.19.2`.
    """

    name: str
    namespace: str
    chart: Path
    values: tuple[Path, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    objects: tuple[KubeObject, ...] = ()
    content: str = ""
    mentions: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is going to do; made by `resolve`, printed by `--kindinfra-plan`.

    Attributes:
        declaration: What it was made from.
        services: Those needed, in an order in which every need comes first.
        images: Those needed, in an order in which every base comes first.
        objects: For each needed service its Kubernetes objects, as written, in applying order.
        image_uses: For each needed service: reference as written to the declared image's name.
        external: For each needed service: references as written that no declared image means.
        ports: For all declared endpoints, then the spare ones.
        releases: Service to its chart's release, whose objects are among `objects` too.
        shared: Objects without a namespace that several declared services have exactly alike.
        namespaces: Where a service is whose place is not `[cluster] namespace`: a worker's copy.
    """

    declaration: Declaration
    services: tuple[Service, ...] = ()
    images: tuple[Image, ...] = ()
    objects: dict[str, tuple[KubeObject, ...]] = field(default_factory=dict)
    image_uses: dict[str, dict[str, str]] = field(default_factory=dict)
    external: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ports: tuple[PortMapping, ...] = ()
    releases: dict[str, Release] = field(default_factory=dict)
    shared: tuple[KubeObject, ...] = ()
    namespaces: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image that the engine has, or a registry.

    Attributes:
        name: The declared name.
        reference: Names its content: its name in the engine, or `pushed` if the engine lacks it.
        cached: Nothing was built, since it was built from the same sources before.
        bases: The registries' images that it was built from, to their ids; empty if not known.
        also: Further references, made by a template.
        contexts: Names by what it was built from. In the first, a declared base counts by its own
            sources, in the second by its content.
        pushed: Its name with a digest in the registry of images; empty without one.
    """

    name: str
    reference: str
    cached: bool
    bases: dict[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    pushed: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names that this project gave it."""
        return (self.reference, *self.also, *self.contexts)

    @property
    def by_sources(self) -> str:
        """The name by its sources alone; the reference of an image that is not built."""
        return self.contexts[0] if self.contexts else self.reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster that answers.

    Attributes:
        name: kind's name for it.
        kubeconfig: A private file, 0600.
        nodes: The names of the kind nodes' containers.
        host_ports: NodePort to port of this host.
        hosts: NodePort to the address of this host on which its port is reached; 127.0.0.1 for
            those that are missing.
        owned: This run made it and may delete it.
        reused_dir: The reused directory of a cluster that outlives the run; None for any other.
        ports: The plan's mappings with the NodePorts that this cluster has for them; empty where
            they are the plan's own.
    """

    name: str
    kubeconfig: Path
    nodes: tuple[str, ...]
    host_ports: dict[int, int]
    owned: bool
    reused_dir: Path | None = None
    ports: tuple[PortMapping, ...] = ()
    hosts: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedCluster:
    """A cluster as its containers show it, whether it works or not.

    Attributes:
        nodes: The names of the kind nodes' containers.
        running: All of them run.
        folder: The run directory, or directory of a reused cluster, that is mounted in the kind
            nodes; None if no run of this project created the cluster.
        host_ports: Port of a kind node to port of this host.
        hosts: Port of a kind node to the address on which its port is reached.
    """

    nodes: tuple[str, ...]
    running: bool
    folder: Path | None
    host_ports: dict[int, int]
    hosts: dict[int, str] = field(default_factory=dict)


def url_of(scheme: str, host: str, port: int) -> str:
    """Return `scheme://host:port`; an IPv6 address is in brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A scheme, host and port on the test's side that has answered.

    `virtual_host` is what requests must say in their header `Host`; empty if that is `host`.
    """

    service: str
    name: str
    scheme: str
    host: str
    port: int
    virtual_host: str = ""

    @property
    def url(self) -> str:
        """`scheme://host:port`, without path and trailing slash."""
        return url_of(self.scheme, self.host, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of work: `kind subject`, start and end in seconds since the epoch.

    Attributes:
        kind: One of `system.timeline.PHASE_KINDS`.
        subject: The image, service or cluster worked on.
        ok: It did not fail.
        note: A word for the table, such as `cached`.
        sent: Of a load: the bytes that its stream took to all kind nodes together. Images that
            went in one stream have the same start and end, and the same number.
    """

    kind: str
    subject: str
    start: float
    end: float
    ok: bool = True
    note: str = ""
    sent: int | None = None

    @property
    def name(self) -> str:
        """The name under which run.json lists it."""
        return f"{self.kind} {self.subject}"

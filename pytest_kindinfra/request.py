"""What the recipe is given: what is wanted, who does the work, whom to call on the way."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image, Load
    from pytest_kindinfra.process import Runner
    from pytest_kindinfra.registries.protocol import RegistryHost
    from pytest_kindinfra.timeline import Running, Timeline


@dataclass(slots=True)
class OwnCluster:
    """What this process remembers of the cluster, since the run directory may be removed.

    Attributes:
        begun: It is this run's to end: its creation has begun, or it was taken over.
        home: Its folder if it outlives the run.
    """

    begun: bool = False
    home: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Who does the work, and who keeps its secrets; `closing` is closed when the run has ended."""

    engine: Engine
    provider: Provider
    runner: Runner
    timeline: Timeline
    registries: RegistryHost
    redactor: Redactor = field(default_factory=Redactor)
    closing: ExitStack = field(default_factory=ExitStack)
    own: OwnCluster = field(default_factory=OwnCluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What others want called on the way; whatever one raises fails that image or service.

    `beat` is called each second with what goes on, `say` with a line for the user. `deploying`
    says that a plugin or conftest implements `before_deploy` or `after_deploy`, which may make
    anything.
    """

    before_build: Callable[[Image], object] = lambda _image: None
    before_deploy: Callable[..., object] = lambda **_: None
    after_deploy: Callable[..., object] = lambda **_: None
    beat: Callable[[tuple[Running, ...]], object] = lambda _running: None
    say: Callable[[str], object] = lambda _line: None
    deploying: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """A cluster that outlives the run.

    Attributes:
        home: Where one that is made anew keeps what later runs must know.
        knows_all: The declaration holds all services that there are; without hooks it may not.
    """

    home: Path
    knows_all: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingCluster:
    """A cluster that is there already.

    Attributes:
        kubeconfig: The user's file.
        name: What kind calls it; the context's name if it is no kind cluster of this host.
        nodes: Its kind nodes; none if it is not a kind cluster of this host.
    """

    kubeconfig: Path
    name: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a run wants beyond its plan.

    Attributes:
        cluster: The name of the cluster to make.
        named: The name is no new one: a cluster of that name may be there.
        run_id: The run's id.
        namespace: Where services go.
        build_jobs: Builds at a time.
        timeout: Seconds for the cluster, for each build, and for each service unless it says.
        kind_config: The user's kind config, parsed.
        node_image: The node image, None for kind's own.
        tuning: Boot faster than kind does.
        folder: Where relative paths start.
        fail_fast: The first failure cancels everything.
        load: How images reach the kind nodes.
        registry: The address of the user's own registry, None for one of ours; only with
            `load` registry.
        no_build: Every image must be there.
        images: A folder of saved images; only with `no_build`.
        build_anew: Build without any cache, also what the engine has.
        tag: The template of a further tag for each image, None for none.
        cache: Where is kept what saves time in later runs; None keeps nothing.
        existing: The cluster to use; None makes one.
        reuse: How the cluster outlives the run; None for one that does not.
    """

    cluster: str
    run_id: str
    namespace: str
    build_jobs: int
    timeout: float
    kind_config: dict[str, Any] | None
    node_image: str | None
    tuning: bool
    folder: Path
    fail_fast: bool = False
    load: Load = "auto"
    registry: str | None = None
    no_build: bool = False
    images: Path | None = None
    build_anew: bool = False
    tag: str | None = None
    cache: Path | None = None
    existing: ExistingCluster | None = None
    named: bool = False
    reuse: Reuse | None = None

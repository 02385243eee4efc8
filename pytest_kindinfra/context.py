"""What every step of a bring-up knows: options of the run, tools, hooks, the first failure."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from pytest_kindinfra.errors import CancelledError
from pytest_kindinfra.state.results import BlockedError, Failed, failure_of
from pytest_kindinfra.system.secrets import Redactor
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from pytest_kindinfra.model import Image, Load, Plan, SnapshotUse
    from pytest_kindinfra.protocols import (
        ClusterCreator,
        Engine,
        KindNodes,
        Provider,
        RegistryHost,
        Snapshots,
    )
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Running, Timeline


CLUSTER = "the cluster"
"""What the cluster is called as the root of a failure."""


@dataclass(slots=True)
class OwnCluster:
    """What this process remembers of the cluster, since the run directory may be removed.

    Attributes:
        begun: It is this run's to end: its creation has started, or it is reused.
        reused_dir: Its reused directory if it outlives the run.
        restoring: It is being restored from a snapshot, or was.
        generation: Goes up when it is created again since that failed.
    """

    begun: bool = False
    reused_dir: Path | None = None
    restoring: bool = False
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Who does the work, and who keeps its secrets; `closing` is closed when the run has ended.

    Attributes:
        engine: Builds and exports images.
        provider: Knows the run's cluster, which may be an existing one.
        creator: Creates clusters on this host, and finds those of other runs.
        kind_nodes: Works in kind nodes.
        registries: Finds and runs registries.
        snapshots: Keeps snapshots of kind nodes; None if the engine cannot.
    """

    engine: Engine
    provider: Provider
    creator: ClusterCreator
    kind_nodes: KindNodes
    runner: Runner
    timeline: Timeline
    registries: RegistryHost
    snapshots: Snapshots | None = None
    redactor: Redactor = field(default_factory=Redactor)
    closing: ExitStack = field(default_factory=ExitStack)
    own: OwnCluster = field(default_factory=OwnCluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What others want called on the way; whatever one raises fails that image or service.

    `heartbeat` is called each second with what goes on, `say` with a line for the user. `deploying`
    says that a plugin or conftest implements `before_deploy` or `after_deploy`, which may make
    anything.
    """

    before_build: Callable[[Image], object] = lambda _image: None
    before_deploy: Callable[..., object] = lambda **_: None
    after_deploy: Callable[..., object] = lambda **_: None
    heartbeat: Callable[[tuple[Running, ...]], object] = lambda _running: None
    say: Callable[[str], object] = lambda _line: None
    deploying: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """A cluster that outlives the run.

    Attributes:
        reused_dir: Where a new one keeps what later runs must know.
        knows_all: The declaration holds all services that there are; without hooks it may not.
    """

    reused_dir: Path
    knows_all: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingCluster:
    """A cluster that runs did not create.

    Attributes:
        kubeconfig: The user's file.
        name: What kind calls it; the context's name if it is no kind cluster of this host.
        nodes: Its kind nodes; none if it is not a kind cluster of this host.
        context: Which context of the file; None means the current one.
        inside: This process runs in a pod of it.
    """

    kubeconfig: Path
    name: str
    nodes: tuple[str, ...] = ()
    context: str | None = None
    inside: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a run wants beyond its plan.

    Attributes:
        cluster: The name of the cluster to make.
        named: The name is no new one: a cluster of that name may be there.
        run_id: The run's id.
        namespace: Where services go.
        ttl: Seconds for which a namespace made in an existing cluster may stay.
        quota: What it may use there: pairs as in a ResourceQuota's `hard`.
        build_jobs: Builds at a time.
        timeout: Seconds for the cluster, for each build, and for each service unless it says.
        kind_config: The user's kind config, parsed.
        node_image: The node image, None for kind's own.
        tuning: Boot faster than kind does.
        folder: Where relative paths start.
        fail_fast: The first failure cancels everything.
        load: How images reach the kind nodes.
        registry: The address of the user's own registry, None for the plugin's; only with
            `load` registry.
        image_registry: Where images are looked up and pushed to, None for none.
        builder: The builder of docker buildx for all images, None for the engine's own.
        no_build: Every image must be there.
        images: A folder of saved images; only with `no_build`.
        build_anew: Build without any cache, also what the engine has.
        tag: The template of a further tag for each image, None for none.
        cache: Where is kept what saves time in later runs; None keeps nothing.
        existing: The cluster to use; None makes one.
        reuse: How the cluster outlives the run; None for one that does not.
        snapshot: Whether the cluster may boot from a snapshot, and leave one.
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
    image_registry: str | None = None
    builder: str | None = None
    no_build: bool = False
    images: Path | None = None
    build_anew: bool = False
    tag: str | None = None
    cache: Path | None = None
    existing: ExistingCluster | None = None
    named: bool = False
    reuse: Reuse | None = None
    snapshot: SnapshotUse = "off"
    ttl: float = 86400.0
    quota: tuple[tuple[str, str], ...] = ()


T = TypeVar("T")
F = TypeVar("F", bound=Failed)


class FirstFailure:
    """What ended the bring-up before its time, and explains whatever was given up for it.

    That is a cluster that was lost, or with `--kindinfra-fail=fast` the first failure.
    """

    def __init__(self, cancelled: threading.Event, *, fast: bool) -> None:
        self._cancelled = cancelled
        self._fast = fast
        self._error: BaseException | None = None

    def note(self, name: str, error: BaseException) -> None:
        """Take a failure; the first one ends the bring-up if it is to be fast.

        Args:
            name: What failed: `image "api"`.
            error: Why.
        """
        if self._fast and not isinstance(error, CancelledError):
            self.end(name, error)

    def end(self, name: str, error: BaseException) -> None:
        """Give everything up, because without this nothing can work; the first cause counts.

        Args:
            name: What was lost.
            error: Why.
        """
        self._error = self._error or blocked(name, error)
        self._cancelled.set()

    def explain(self, error: BaseException) -> BaseException:
        """Return why something was given up, which is the first failure if there was one."""
        return self._error if self._error and isinstance(error, CancelledError) else error


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One bring-up.

    Attributes:
        plan: What to bring up.
        request: How.
        tools: Who does the work.
        run: Gets the results.
        hooks: Called on the way.
        cancelled: Set when the run ends.
        failure: Takes failures.
        watchers: Gets the threads that watch the kind nodes.
        cleanup: Gets what is to be closed or released after the run's end.
    """

    plan: Plan
    request: Request
    tools: Tools
    run: RunDirectory
    hooks: Hooks
    cancelled: threading.Event
    failure: FirstFailure
    watchers: list[threading.Thread] = field(default_factory=list)
    cleanup: ExitStack = field(default_factory=ExitStack)

    @overload
    def failure_of(self, error: BaseException, *, subject: str) -> Failed: ...

    @overload
    def failure_of(self, error: BaseException, *, subject: str, kind: type[F]) -> F: ...

    def failure_of(
        self, error: BaseException, *, subject: str, kind: type[Failed] = Failed
    ) -> Failed:
        """Return the result that describes a failure, without secrets: tests and reports show it.

        See `results.failure_of` for the arguments.
        """
        explained, redact = self.failure.explain(error), self.tools.redactor.text
        return failure_of(explained, subject=subject, redact=redact, kind=kind)

    def deadline(self, seconds: float | None = None, *, key: str = "timeout") -> Deadline:
        """Return the deadline of a piece of work that begins now.

        Args:
            seconds: How long it may take; None means the option's value.
            key: What sets `seconds`, for messages.
        """
        if seconds:
            return Deadline.after(seconds, self.cancelled, option=key)
        option = "--kindinfra-timeout"
        return Deadline.after(self.request.timeout, self.cancelled, option=option)


def new_context(
    plan: Plan,
    request: Request,
    *,
    tools: Tools,
    run: RunDirectory,
    hooks: Hooks,
    cancelled: threading.Event,
    watchers: list[threading.Thread] | None = None,
    cleanup: ExitStack | None = None,
) -> Context:
    """Return the context of a bring-up; see `Context` for the arguments."""
    return Context(
        plan=plan,
        request=request,
        tools=tools,
        run=run,
        hooks=hooks,
        cancelled=cancelled,
        failure=FirstFailure(cancelled, fast=request.fail_fast),
        watchers=[] if watchers is None else watchers,
        cleanup=cleanup or ExitStack(),
    )


def needed(name: str, future: Future[T]) -> T:
    """Wait for what another task makes.

    Args:
        name: What it is, for the error: `image "api"`.
        future: Where it comes from.

    Raises:
        BlockedError: It failed; names what began it.
        CancelledError: The run is ending.
    """
    try:
        return future.result()
    except (CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pytest.fail() in a hook is no Exception
        raise blocked(name, error) from error


def blocked(name: str, error: BaseException) -> BaseException:
    """Return the error for what needed `name`; a blocked error names its own root."""
    if isinstance(error, CancelledError | BlockedError):
        return error
    return BlockedError(root=name, error=error)

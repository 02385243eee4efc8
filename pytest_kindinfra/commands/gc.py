"""`kindinfra gc`: delete what killed runs left behind, of all engines and from any folder."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.sweep import Swept, sweep
from pytest_kindinfra.commands.images import settings_of
from pytest_kindinfra.commands.snapshots import Removed, kept_here, remove_snapshots
from pytest_kindinfra.context import ExistingCluster
from pytest_kindinfra.errors import EngineError, KindInfraError
from pytest_kindinfra.model import Declaration
from pytest_kindinfra.system.timeline import Deadline, now
from pytest_kindinfra.wiring import engines_here, make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_kindinfra.context import Tools


_SECONDS = 300.0


_DAY = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """What became of the leftovers of one engine.

    Attributes:
        engine: Its name.
        deleted: Clusters that were deleted.
        unclear: Cluster to why it is unknown whether it may be deleted.
        failed: Cluster to why it could not be deleted.
        commands: Unclear or failed cluster to the command that deletes it.
        registry: The plugin's own registry was removed.
        problem: Why not all of that could be done; empty if it was.
    """

    engine: str
    deleted: list[str] = field(default_factory=list)
    unclear: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    registry: bool = False
    problem: str = ""

    @property
    def lines(self) -> Iterator[str]:
        """What is shown of it."""
        for name in self.deleted:
            yield f"deleted cluster {name}"
        for name, why in self.unclear.items():
            yield f"left alone: cluster {name}: {why}"
            yield f"  if it is not in use: {self.commands[name]}"
        for name, why in self.failed.items():
            yield f"could not delete cluster {name}: {why}"
            yield f"  To fix: {self.commands[name]}"
        if self.registry:
            yield "removed the registry"
        if self.problem:
            yield f"{self.engine}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesSwept:
    """What became of the old images of one engine.

    Attributes:
        engine: Its name.
        days: How long no run made or used them.
        removed: References.
        left: Reference to why it was left.
        problem: Why none could be removed; empty if some could.
    """

    engine: str
    days: float
    removed: list[str] = field(default_factory=list)
    left: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def lines(self) -> Iterator[str]:
        """What is shown of it."""
        for reference in self.removed:
            yield f"removed image {reference}"
        for reference, why in self.left.items():
            yield f"left alone: image {reference}: {why}"
        if self.problem:
            yield f"images of {self.engine}: {self.problem}"
        elif not self.removed and not self.left:
            yield f"no image built by kindinfra is older than {self.days:g} days"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What became of the namespaces in an existing cluster that no run needs any more.

    Attributes:
        kubeconfig: Of the cluster.
        deleted: Namespaces that were deleted, with all else of their runs.
        problem: Why not all of that could be done; empty if it was.
    """

    kubeconfig: str
    deleted: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def lines(self) -> Iterator[str]:
        """What is shown of it."""
        for name in self.deleted:
            yield f"deleted namespace {name}"
        if self.problem:
            yield f"{self.kubeconfig}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What `gc` did, engine by engine."""

    clusters: list[Clusters]
    images: list[ImagesSwept]
    snapshots: list[Removed]
    expired: Expired | None = None

    @property
    def well(self) -> bool:
        """Whether all went that should."""
        well = all(not (one.failed or one.problem) for one in self.clusters)
        well = well and not (self.expired and self.expired.problem)
        return well and not any(one.problem for one in self.images)

    @property
    def lines(self) -> Iterator[str]:
        """What is shown of it."""
        found = [line for one in self.clusters for line in one.lines]
        found += [line for one in self.snapshots for line in one.lines]
        found += self.expired.lines if self.expired else []
        yield from found or ["nothing was left behind"]
        for images in self.images:
            yield from images.lines

    @property
    def record(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "clusters": [asdict(one) for one in self.clusters],
            "images": [asdict(one) for one in self.images],
            "snapshots": [asdict(one) for one in self.snapshots],
            "expired": self.expired and asdict(self.expired),
        }


def collect_garbage(
    *,
    images: bool,
    days: float,
    say: Callable[[str], object],
    kubeconfig: Path | None = None,
    context: str | None = None,
) -> Collected:
    """Delete the clusters of killed runs, a registry and snapshots that are not in use.

    Args:
        images: Old images of this plugin are removed too.
        days: How long no run made or used those.
        say: Shows a line while another process is waited for.
        kubeconfig: Of an existing cluster whose expired namespaces are deleted too.
        context: Which of the contexts of the kubeconfig, or of kubectl's files.

    Returns:
        What was done; what could not be done for one engine is a `problem` there.
    """
    existing = _existing(kubeconfig, context)
    # A pod that cleans its own cluster up has no engine.
    tools = [make_tools(engine) for engine in engines_here(required=existing is None)]
    return Collected(
        clusters=[_clusters(one, say) for one in tools],
        images=[_images(one, days=days) for one in tools] if images else [],
        snapshots=[_snapshots(one) for one in tools],
        expired=_expired(existing) if existing else None,
    )


def _existing(kubeconfig: Path | None, context: str | None) -> ExistingCluster | None:
    """Return the existing cluster that is named, if one is."""
    from pytest_kindinfra.clusters.kubeconfigs import all_files

    given = {"kubeconfig": kubeconfig, "context": context}
    settings = settings_of(Declaration(folder=Path.cwd()), given)
    if (file := settings.kubeconfig) is None:
        return None
    path = all_files(file, Path.cwd())
    return ExistingCluster(kubeconfig=path, name=str(file), context=settings.context)


def _expired(existing: ExistingCluster) -> Expired:
    """Delete what has expired in a cluster, and the stacks of groups whose runs are dead."""
    from pytest_kindinfra.clusters.existing import remove_expired_in

    try:
        deleted = remove_expired_in(existing, now(), Deadline.after(_SECONDS), groups=True)
    except KindInfraError as error:
        return Expired(kubeconfig=existing.name, problem=str(error))
    return Expired(kubeconfig=existing.name, deleted=deleted)


def _clusters(tools: Tools, say: Callable[[str], object]) -> Clusters:
    swept, registry, problems = Swept(), False, []
    try:
        swept = sweep(tools.creator, Deadline.after(_SECONDS))
    except KindInfraError as error:
        problems.append(str(error))
    try:
        registry = _registry(tools, say)
    except KindInfraError as error:
        problems.append(str(error))
    delete = tools.provider.delete_command
    return Clusters(
        engine=tools.engine.name,
        deleted=swept.deleted,
        unclear=swept.unclear,
        failed=swept.failed,
        commands={name: shlex.join(delete(name)) for name in (*swept.unclear, *swept.failed)},
        registry=registry,
        problem="\n".join(dict.fromkeys(problems)),
    )


def _snapshots(tools: Tools) -> Removed:
    """Remove the snapshots that no run can use any more; an engine that cannot say has none."""
    if keeper := kept_here(tools):
        with suppress(EngineError):
            return remove_snapshots(keeper, useless_only=True)
    return Removed(removed=[], left={})


def _registry(tools: Tools, say: Callable[[str], object]) -> bool:
    """Remove this project's registry if it is not in use; return whether it is gone."""
    from pytest_kindinfra.engines.registry import close_registry
    from pytest_kindinfra.state.memory import cache_folder

    if not tools.engine.runs_registries:
        return False
    return close_registry(
        tools.registries,
        tools.creator,
        cache=cache_folder(),
        say=say,
        deadline=Deadline.after(_SECONDS),
    )


def _images(tools: Tools, *, days: float) -> ImagesSwept:
    try:
        return _discard(tools, days=days)
    except KindInfraError as error:
        return ImagesSwept(engine=tools.engine.name, days=days, problem=str(error))


def _discard(tools: Tools, *, days: float) -> ImagesSwept:
    from pytest_kindinfra.images.cleanup import discard_images
    from pytest_kindinfra.state.memory import cache_folder

    done = discard_images(
        tools.engine,
        tools.creator,
        cache=cache_folder(),
        before=now() - days * _DAY,
        deadline=Deadline.after(_SECONDS),
    )
    return ImagesSwept(
        engine=tools.engine.name, days=days, removed=list(done.removed), left=dict(done.left)
    )

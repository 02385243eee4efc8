"""Old images of this project: removed from the engine by `gc`, and from a reused cluster."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError, KindInfraError, StateError
from pytest_kindinfra.images.names import is_context_name
from pytest_kindinfra.kube.objects import image_references
from pytest_kindinfra.references import normalise, split
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import is_locked
from pytest_kindinfra.state.memory import forget_use, read_uses
from pytest_kindinfra.state.records import ImageReady

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import BuiltImage, Cluster
    from pytest_kindinfra.protocols.cluster import ClusterCreator
    from pytest_kindinfra.protocols.engine import Engine, OwnImage
    from pytest_kindinfra.state.memory import ImageUse
    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True)
class Discarded:
    """What became of old images.

    Attributes:
        removed: References that are gone.
        left: Reference to why it could not be removed.
    """

    removed: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def discard_images(
    engine: Engine, creator: ClusterCreator, *, cache: Path, before: float, deadline: Deadline
) -> Discarded:
    """Remove images of this project that no run has made or used since a point in time.

    Args:
        engine: Who has them.
        creator: Knows the run directories of clusters.
        cache: The cache folder, which has the last use of each.
        before: The point, in seconds since the epoch.
        deadline: When to give up.

    Raises:
        CommandError: The engine did not say what it has.
    """
    uses = read_uses(cache)
    live = _live([*(use.run for use in uses.values()), *creator.run_directories(deadline).values()])
    old = [
        reference
        for reference, image in _named(engine.own_images(deadline))
        if reference not in live and _last_time(reference, image, uses) < before
    ]
    done = Discarded()
    for reference in old:
        try:
            engine.remove(reference, deadline)
        except CommandError as error:  # a container runs it
            done.left[reference] = str(error)
        else:
            forget_use(cache, reference)
            done.removed.append(reference)
    return done


def _last_time(reference: str, image: OwnImage, uses: Mapping[str, ImageUse]) -> float:
    """Return when a name was last used, or when its image was last named.

    Each build of a wide context gives the same image one more name by its context. So the use of
    such a name alone counts, if there was any: without it the image is built again from the cache.
    """
    use = uses.get(reference)
    if use and is_context_name(reference):
        return use.at
    return max(image.since, use.at if use else 0.0)


def _named(images: Iterable[OwnImage]) -> Iterator[tuple[str, OwnImage]]:
    """Give each name that a build gave; an image may have other names too, which stay."""
    for image in images:
        for reference in image.references:
            if reference.startswith(f"localhost/{image.name}:"):
                yield reference, image


def _live(folders: Iterable[Path]) -> set[str]:
    """Return what live runs use, also those that have no cluster yet."""
    runs = [RunDirectory(folder) for folder in dict.fromkeys(folders)]
    images = [one for run in runs if is_locked(run.lock) for one in _images_of(run)]
    return {name for image in images for name in image.names}


def _images_of(run: RunDirectory) -> list[BuiltImage]:
    with suppress(StateError, OSError):
        return [ready.image for ready in run.read_all(ImageReady).values()]
    return []


def drop_old_images(context: Context, cluster: Cluster, kube: Kube) -> None:
    """Remove what this run replaced; a failure is not reported."""
    loaded = {one.subject for one in context.tools.timeline.phases if one.kind == "load" and one.ok}
    built = context.run.read_all(ImageReady)
    current = {name: built[name].image for name in loaded if name in built}
    if cluster.reused_dir is None or not cluster.owned or not current:
        return
    with suppress(KindInfraError):
        pods = kube.list_("/api/v1/pods")
        used = {normalise(ref) for pod in pods for ref in image_references(pod)}
        for node in cluster.nodes:
            _drop(context, node, current, used)


def _drop(
    context: Context, node: str, current: Mapping[str, BuiltImage], used: Collection[str]
) -> None:
    nodes, deadline = context.tools.kind_nodes, context.deadline()
    names = [name for one in current.values() for name in (one.reference, one.pushed) if name]
    keep = {*used, *map(normalise, names)}
    repositories = {f"localhost/{name}" for name in current}
    repositories |= {split(one.pushed)[0] for one in current.values() if one.pushed}
    there = nodes.images_in(node, deadline)
    old = sorted(ref for ref in there if split(ref)[0] in repositories and ref not in keep)
    if old:
        nodes.forget_images(node, old, deadline)

"""Remove old images of ours from the engine: by name, never by a prune of everything.

Ours are those with our label, under the names that we give: `localhost/NAME:TAG`. What a live run
uses, or any run used or made a short while ago, stays. A step must not know another step.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.coordination import RunDirectory, is_held
from pytest_kindinfra.errors import CommandError, StateError
from pytest_kindinfra.imageuses import forget_use, read_uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.engines.protocol import Engine, OwnImage
    from pytest_kindinfra.imageuses import ImageUse
    from pytest_kindinfra.timeline import Deadline


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
    engine: Engine, provider: Provider, *, cache: Path, before: float, deadline: Deadline
) -> Discarded:
    """Remove images of ours that nobody has made or used since a point in time.

    Args:
        engine: Who has them.
        provider: Knows the run directories of clusters.
        cache: The cache folder, which has the last use of each.
        before: The point, in seconds since the epoch.
        deadline: When to give up.

    Raises:
        CommandError: The engine did not say what it has.
    """
    uses = read_uses(cache)
    live = _live(
        [*(use.run for use in uses.values()), *provider.run_directories(deadline).values()]
    )
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
    use = uses.get(reference)
    return max(image.since, use.at if use else 0.0)


def _named(images: Iterable[OwnImage]) -> Iterator[tuple[str, OwnImage]]:
    """Give each name of ours; an image may have names of others too, which stay."""
    for image in images:
        for reference in image.references:
            if reference.startswith(f"localhost/{image.name}:"):
                yield reference, image


def _live(folders: Iterable[Path]) -> set[str]:
    """Return what live runs use, also those that have no cluster yet."""
    runs = [RunDirectory(folder) for folder in dict.fromkeys(folders)]
    records = [one for run in runs if is_held(run.lock) for one in _images_of(run)]
    return {name for one in records for name in (one["reference"], *one.get("also", ()))}


def _images_of(run: RunDirectory) -> list[dict[str, Any]]:
    with suppress(StateError, OSError):
        return [dict(record) for record in run.read_all("image-").values()]
    return []

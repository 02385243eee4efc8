"""How much room the images of a run will take on the engine's disk, as far as they are known.

Sizes come from the loads of earlier runs and from what the engine has. An image of which nothing
is known counts as nothing: a run is never refused for a guess. A step must not know another step.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.diskspace import Room
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.imagesizes import read_sizes
from pytest_kindinfra.references import name_in_node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_kindinfra.engines.protocol import Engine, ImageSize
    from pytest_kindinfra.imagesizes import Layers
    from pytest_kindinfra.model import Image, Plan
    from pytest_kindinfra.timeline import Deadline

_COPIES = 2
"""A kind node has each layer as it was sent, and unpacked."""


def estimate_room(plan: Plan, *, cache: Path | None, engine: Engine, deadline: Deadline) -> Room:
    """Return how much room the images of a plan will take, as far as anything is known of them.

    Args:
        plan: What will be loaded, and built.
        cache: The cache folder; None if there is none.
        engine: What it has is asked; one that does not answer has nothing.
        deadline: When to give up.
    """
    folder = plan.declaration.folder
    known = read_sizes(cache, folder) if cache else {}
    used = {name for service in plan.services for name in service.images}
    images = [image for image in plan.images if image.name in used]
    there = {ref for refs in plan.external.values() for ref in refs}
    there |= {image.prebuilt for image in images if image.prebuilt}
    names = {image.name for image in images} | {name_in_node(ref) for ref in there}
    layers = _together(known[name] for name in names if name in known)
    unknown = [ref for ref in sorted(there) if name_in_node(ref) not in known]
    size = sum(layers.values()) + _of_engine(unknown, layers, engine, deadline)
    size = max(size, *(_archive_size(folder, image) for image in images), 0)
    return Room(in_node=_COPIES * size, builds=_of_builds(images, known, engine, deadline))


def _together(images: Iterable[Layers]) -> Layers:
    return {digest: size for layers in images for digest, size in layers.items()}


def _of_engine(
    references: list[str], known: Mapping[str, int], engine: Engine, deadline: Deadline
) -> int:
    """Return what images of the engine take beside `known`, the largest of those that share."""
    found: list[ImageSize] = []
    with suppress(KindInfraError):
        found = list(engine.image_sizes(references, deadline).values())
    total, seen = 0, set(known)
    for image in sorted(found, key=lambda one: one.size, reverse=True):
        if seen.isdisjoint(image.layers):
            total += image.size
        seen.update(image.layers)
    return total


def _of_builds(
    images: list[Image], known: Mapping[str, Layers], engine: Engine, deadline: Deadline
) -> int:
    """Return what builds add to an engine that has never built these images."""
    built = [image for image in images if not (image.prebuilt or image.archive)]
    if not any(image.name in known for image in built):
        return 0
    with suppress(KindInfraError):
        there = {image.name for image in engine.own_images(deadline)}
        had = _together(known[name] for name in there & known.keys())
        new = _together(known[one.name] for one in built if one.name in known.keys() - there)
        return sum(size for digest, size in new.items() if digest not in had)
    return 0


def _archive_size(folder: Path, image: Image) -> int:
    if image.archive is None:
        return 0
    try:
        return (folder / image.archive).stat().st_size
    except OSError:
        return 0

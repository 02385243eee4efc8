"""Write images into a folder, for a run elsewhere that does not build.

A step must not know another step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.savedimages import SavedImage, write_saved_images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import BuiltImage, Plan
    from pytest_kindinfra.timeline import Deadline


def save_images(
    plan: Plan,
    built: Mapping[str, BuiltImage],
    *,
    into: Path,
    engine: Engine,
    deadline: Callable[[], Deadline],
) -> dict[str, SavedImage]:
    """Write an archive of each image that was built, and the manifest that names them.

    Those that only others start from get no archive: their layers are in those others.
    Prebuilt images and archives are left out; whoever declared them has them.

    Args:
        plan: What was built.
        built: Declared name to image.
        into: The folder; made if missing.
        engine: Who has the images.
        deadline: Makes the deadline of a piece of work that begins now.

    Raises:
        CommandError: One could not be written.
    """
    into.mkdir(parents=True, exist_ok=True)
    run = {name for service in plan.services for name in service.images}
    bases = {name for image in plan.images for name in image.needs}
    saved: dict[str, SavedImage] = {}
    for image in plan.images:
        if image.prebuilt or image.archive:
            continue
        one = built[image.name]
        file = f"{image.name}.tar" if image.name in run or image.name not in bases else None
        if file:
            engine.save(one.reference, into / file, deadline())
        saved[image.name] = SavedImage(reference=one.reference, file=file, bases=one.bases)
    write_saved_images(into, saved)
    return saved

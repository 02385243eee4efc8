"""Build one image, unless its content has been built before.

A step must not know another step; the order of steps is `stack.py`'s.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.buildsecrets import unshown_arguments
from pytest_kindinfra.content import write_ignore_file
from pytest_kindinfra.digests import Digests
from pytest_kindinfra.engines.protocol import BuildRequest
from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.imagefiles import load_image_file
from pytest_kindinfra.model import BuiltImage
from pytest_kindinfra.pulls import base_image_in, remedy_of_pull
from pytest_kindinfra.tags import archive_reference, tag_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image
    from pytest_kindinfra.slots import BuildSlots
    from pytest_kindinfra.tags import Tagged
    from pytest_kindinfra.timeline import Deadline, Timeline


_TAIL = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where the images of a run are built.

    Attributes:
        folder: Where relative paths start.
        output: The run's folder for build logs.
        engine: Who builds.
        slots: How many at a time.
        timeline: Gets a `build` phase if something is built.
        digests: Of the files that images are built from.
        anew: Build without any cache, also what the engine has.
    """

    folder: Path
    output: Path
    engine: Engine
    slots: BuildSlots
    timeline: Timeline
    digests: Digests = field(default_factory=Digests)
    anew: bool = False


def build_image(
    image: Image,
    *,
    bases: Sequence[BuiltImage],
    workshop: Workshop,
    deadline: Callable[[float | None], Deadline],
    rank: float = 0.0,
) -> BuiltImage:
    """Return the image under the tag of its content; build it if the engine lacks that.

    Args:
        image: What was declared.
        bases: The declared images that it starts FROM, built.
        workshop: Where it is built.
        deadline: Makes the deadline of a piece of work that begins now and may take so many
            seconds (None: the usual ones), so that waiting for a slot does not count.
        rank: Of those that wait for a slot, who has more goes first.

    Raises:
        CommandError: The build failed.
        KindInfraError: The context cannot be read.
    """
    engine = workshop.engine
    if image.prebuilt:
        return _prebuilt(image, engine, deadline(None))
    if image.archive:
        return _from_archive(image, workshop, deadline(None))
    weight = None if image.exclusive else image.weight
    with workshop.slots.place(rank=rank, weight=weight) as place:
        tagged = tag_image(
            image,
            named={base.name: base.reference for base in bases},
            folder=workshop.folder,
            ids=lambda references: engine.image_ids(references, deadline(None)),
            digests=workshop.digests,
        )
        cached = not workshop.anew and bool(engine.image_ids([tagged.reference], deadline(None)))
        if not cached:
            request = _request(image, tagged, workshop)
            with workshop.slots.turn(place, deadline(None)):
                _build(request, workshop, deadline(image.timeout))
    return BuiltImage(
        name=image.name, reference=tagged.reference, cached=cached, bases=tagged.bases
    )


def _build(request: BuildRequest, workshop: Workshop, deadline: Deadline) -> None:
    log = workshop.output / f"{request.name}.log"
    with workshop.timeline.span("build", request.name, says=lambda: last_line(log)):
        try:
            workshop.engine.build(request, deadline=deadline, log=log)
        except CommandError as error:
            raise _with_remedy(error) from error


def _with_remedy(error: CommandError) -> CommandError:
    """Return the error with what to do about a base image that could not be pulled."""
    name, said = base_image_in(error.output)
    remedy = remedy_of_pull(said)
    if not remedy:
        return error
    what = f'{error.what}: the base image "{name}" cannot be pulled'
    return CommandError(
        error.argv, exit_code=error.exit_code, output=error.output, what=what, fix=remedy
    )


def last_line(log: Path) -> str:
    """Return the last whole line of a log that is being written, empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().decode(errors="replace").split("\n")[:-1]
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _request(image: Image, tagged: Tagged, workshop: Workshop) -> BuildRequest:
    source = tagged.source
    return BuildRequest(
        name=image.name,
        reference=tagged.reference,
        context=source.context,
        dockerfile=write_ignore_file(source, into=workshop.output / image.name),
        target=image.target,
        build_args=source.build_args,
        unshown=unshown_arguments(image),
        contexts=tagged.named,
        options=(*image.build_options, *(("--no-cache",) if workshop.anew else ())),
        bases=tuple(tagged.bases),
    )


def _from_archive(image: Image, workshop: Workshop, deadline: Deadline) -> BuiltImage:
    """Load the archive into the engine, once for each content."""
    reference = archive_reference(image, folder=workshop.folder, digests=workshop.digests)
    if not workshop.engine.image_ids([reference], deadline):
        path = workshop.folder / (image.archive or "")
        load_image_file(path, reference, workshop.engine, deadline)
    return BuiltImage(name=image.name, reference=reference, cached=True)


def _prebuilt(image: Image, engine: Engine, deadline: Deadline) -> BuiltImage:
    reference = image.prebuilt or ""
    if not engine.image_ids([reference], deadline):
        msg = (
            f'image "{image.name}": the prebuilt "{reference}" is not in the engine\n'
            f"To fix: docker pull {reference}"
        )
        raise KindInfraError(msg)
    return BuiltImage(name=image.name, reference=reference, cached=True)

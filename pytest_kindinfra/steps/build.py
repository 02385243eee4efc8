"""Build one image, unless its content has been built before.

A step must not know another step; the order of steps is `stack.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.content import (
    base_references,
    content_tag,
    file_tag,
    read_source,
    write_ignore_file,
)
from pytest_kindinfra.digests import Digests
from pytest_kindinfra.engines.protocol import BuildRequest
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.model import BuiltImage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_kindinfra.content import Source
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image
    from pytest_kindinfra.slots import BuildSlots
    from pytest_kindinfra.timeline import Deadline, Timeline


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
    """

    folder: Path
    output: Path
    engine: Engine
    slots: BuildSlots
    timeline: Timeline
    digests: Digests = field(default_factory=Digests)


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
        source = read_source(image, folder=workshop.folder)
        named = {base.name: base.reference for base in bases}
        tag = _tag(image, source, named, workshop, deadline(None))
        reference = f"localhost/{image.name}:{tag}"
        if engine.image_ids([reference], deadline(None)):
            return BuiltImage(name=image.name, reference=reference, cached=True)
        request = _request(image, source, reference, named, workshop.output)
        with workshop.slots.turn(place, deadline(None)):
            _build(request, workshop, deadline(image.timeout))
    return BuiltImage(name=image.name, reference=reference, cached=False)


def _build(request: BuildRequest, workshop: Workshop, deadline: Deadline) -> None:
    log = workshop.output / f"{request.name}.log"
    with workshop.timeline.span("build", request.name):
        workshop.engine.build(request, deadline=deadline, log=log)


def _tag(
    image: Image, source: Source, named: dict[str, str], workshop: Workshop, deadline: Deadline
) -> str:
    external = base_references(source, named=named)
    ids = workshop.engine.image_ids(external, deadline)
    bases = {**dict.fromkeys(external, ""), **ids, **named}
    return content_tag(image, source, bases=bases, digests=workshop.digests)


def _request(
    image: Image, source: Source, reference: str, named: dict[str, str], output: Path
) -> BuildRequest:
    return BuildRequest(
        name=image.name,
        reference=reference,
        context=source.context,
        dockerfile=write_ignore_file(source, into=output / image.name),
        target=image.target,
        build_args=source.build_args,
        contexts=named,
        options=image.build_options,
    )


def _from_archive(image: Image, workshop: Workshop, deadline: Deadline) -> BuiltImage:
    """Load the archive into the engine, once for each content."""
    archive = workshop.folder / (image.archive or "")
    reference = f"localhost/{image.name}:{file_tag(archive, workshop.digests)}"
    if not workshop.engine.image_ids([reference], deadline):
        workshop.engine.load(archive, reference, deadline)
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

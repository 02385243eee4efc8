"""Build one image, unless its content has been built before.

A build gets the name of its content only after its files were looked at again: what was changed
meanwhile would stay behind that name for good (docs/decisions/0036).
A step must not know another step; the order of steps is `stack.py`'s.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.buildsecrets import unshown_arguments
from pytest_kindinfra.content import content_of, write_ignore_file
from pytest_kindinfra.digests import Digests
from pytest_kindinfra.engines.protocol import BuildRequest
from pytest_kindinfra.errors import CommandError, KindInfraError
from pytest_kindinfra.imagefiles import load_image_file
from pytest_kindinfra.model import BuiltImage
from pytest_kindinfra.tags import archive_reference, tag_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image
    from pytest_kindinfra.slots import BuildSlots
    from pytest_kindinfra.tags import Tagged
    from pytest_kindinfra.timeline import Deadline, Timeline


ATTEMPTS = 3
"""Builds of one image whose files change while it is built, before that is an error."""

_TAIL = 4096
_FILES_NAMED = 3


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
        names: Declared images to the further names that a Dockerfile may call them.
    """

    folder: Path
    output: Path
    engine: Engine
    slots: BuildSlots
    timeline: Timeline
    digests: Digests = field(default_factory=Digests)
    anew: bool = False
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)


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
        KindInfraError: The context cannot be read, or its files do not stay as they are.
    """
    engine = workshop.engine
    if image.prebuilt:
        return _prebuilt(image, engine, deadline(None))
    if image.archive:
        return _from_archive(image, workshop, deadline(None))
    weight = None if image.exclusive else image.weight
    with workshop.slots.place(rank=rank, weight=weight) as place:
        changed: list[str] = []
        for _ in range(ATTEMPTS):
            tagged = _tagged(image, bases, workshop, deadline)
            if not workshop.anew and engine.image_ids([tagged.reference], deadline(None)):
                return _built(image, tagged, cached=True)
            request = _request(image, tagged, workshop)
            with workshop.slots.turn(place, deadline(None)):
                _build(image, request, workshop, deadline(image.timeout))
            if not (changed := _changed_since(image, tagged, workshop)):
                engine.tag(request.reference, tagged.reference, deadline(None))
            _drop(request.reference, engine, deadline(None))
            if not changed:
                return _built(image, tagged, cached=False)
    raise KindInfraError(_unsteady(image, changed))


def _tagged(
    image: Image,
    bases: Sequence[BuiltImage],
    workshop: Workshop,
    deadline: Callable[[float | None], Deadline],
) -> Tagged:
    return tag_image(
        image,
        named={base.name: base.reference for base in bases},
        folder=workshop.folder,
        ids=lambda references: workshop.engine.image_ids(references, deadline(None)),
        names=workshop.names,
        digests=workshop.digests,
    )


def _built(image: Image, tagged: Tagged, *, cached: bool) -> BuiltImage:
    return BuiltImage(
        name=image.name, reference=tagged.reference, cached=cached, bases=tagged.bases
    )


def _build(image: Image, request: BuildRequest, workshop: Workshop, deadline: Deadline) -> None:
    log, seconds = workshop.output / f"{request.name}.log", deadline.left
    with workshop.timeline.span("build", request.name, says=lambda: last_line(log)):
        try:
            workshop.engine.build(request, deadline=deadline, log=log)
        except CommandError as error:
            if error.exit_code is not None:
                raise
            told = f"{error.output.rstrip()}\n{_too_slow(image, seconds)}"
            raise error.about(told) from None


def _too_slow(image: Image, seconds: float) -> str:
    place = f"timeout in [images.{image.name}]"
    said, fix = (
        (place, f"raise {place}")
        if image.timeout
        else ("--kindinfra-timeout", f"raise --kindinfra-timeout, or set {place}")
    )
    return f"It was ended after {seconds:.0f} s, as {said} says\nTo fix: {fix}"


def _changed_since(image: Image, tagged: Tagged, workshop: Workshop) -> list[str]:
    """Return the files that changed since an image was tagged; a change undone is one too.

    The Dockerfile and the ignore file are copies, so that those cannot change.
    """
    try:
        now = content_of(image, tagged.source, bases={}, digests=workshop.digests)
    except KindInfraError as error:  # one went while it was looked at
        return [getattr(error.__cause__, "filename", None) or str(error)]
    return tagged.content.changed_in(now)


def _drop(reference: str, engine: Engine, deadline: Deadline) -> None:
    """Take the name that was for the build alone; `kindinfra gc --images` takes one that stays."""
    with suppress(CommandError):
        engine.remove(reference, deadline)


def _unsteady(image: Image, changed: Sequence[str]) -> str:
    """Return what is said of files that change during each build."""
    named = ", ".join(f'"{name}"' for name in changed[:_FILES_NAMED])
    more = f" and {len(changed) - _FILES_NAMED} more" if len(changed) > _FILES_NAMED else ""
    return (
        f'image "{image.name}": it was built {ATTEMPTS} times, and each time files changed'
        f" meanwhile, so that nobody knows what is in it: {named}{more}\n"
        "To fix: stop what writes there, or leave these files out: `ignore` in "
        f"[images.{image.name}], or .dockerignore"
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
        reference=f"{tagged.reference}-{secrets.token_hex(4)}",
        context=source.context,
        dockerfile=write_ignore_file(source, into=workshop.output / image.name),
        target=image.target,
        build_args=source.build_args,
        unshown=unshown_arguments(image),
        contexts=tagged.contexts,
        options=(*tagged.options, *(("--no-cache",) if workshop.anew else ())),
        bases=tuple(tagged.bases),
        folder=workshop.folder,
        source=source.dockerfile,
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

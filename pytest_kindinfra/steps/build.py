"""Build one image, unless its content has been built before.

How many builds run at a time is decided here, over all of the run. A step must not know
another step; the order of steps is `stack.py`'s.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_kindinfra.buildsecrets import unshown_arguments
from pytest_kindinfra.content import (
    base_references,
    content_tag,
    file_tag,
    read_source,
    write_ignore_file,
)
from pytest_kindinfra.engines.protocol import BuildRequest
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.model import BuiltImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_kindinfra.content import Source
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image
    from pytest_kindinfra.timeline import Deadline, Timeline

_LOOK_EVERY = 0.1


class BuildSlots:
    """At most `jobs` builds at a time; an exclusive one takes all slots."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._free = jobs
        self._waiting_exclusive = 0
        self._changed = threading.Condition()

    @contextmanager
    def take(self, *, exclusive: bool, deadline: Deadline) -> Iterator[None]:
        """Run the block in one slot, or in all of them.

        Raises:
            CancelledError: The run is ending.
        """
        count = self._jobs if exclusive else 1
        self._acquire(count, deadline)
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()

    def _acquire(self, count: int, deadline: Deadline) -> None:
        """Take `count` slots at once, so that two exclusive builds cannot block each other."""
        exclusive = count > 1
        with self._changed:
            self._waiting_exclusive += exclusive
            try:
                # One that wants all slots goes before new small ones, or it might never run.
                while self._free < count or (self._waiting_exclusive and not exclusive):
                    self._changed.wait(_LOOK_EVERY)
                    deadline.check()
                self._free -= count
            finally:
                self._waiting_exclusive -= exclusive
                self._changed.notify_all()


def build_image(
    image: Image,
    *,
    bases: Sequence[BuiltImage],
    folder: Path,
    output: Path,
    engine: Engine,
    slots: BuildSlots,
    timeline: Timeline,
    deadline: Callable[[], Deadline],
) -> BuiltImage:
    """Return the image under the tag of its content; build it if the engine lacks that.

    Args:
        image: What was declared.
        bases: The declared images that it starts FROM, built.
        folder: Where relative paths start.
        output: The run's folder for build logs.
        engine: Who builds.
        slots: How many at a time.
        timeline: Gets a `build` phase if something is built.
        deadline: Makes the deadline of a piece of work that begins now, so that waiting for a
            slot does not count.

    Raises:
        CommandError: The build failed.
        KindInfraError: The context cannot be read.
    """
    if image.prebuilt:
        return _prebuilt(image, engine, deadline())
    if image.archive:
        return _from_archive(image, folder, engine, deadline())
    source = read_source(image, folder=folder)
    named = {base.name: base.reference for base in bases}
    reference = f"localhost/{image.name}:{_tag(image, source, named, engine, deadline())}"
    if engine.image_ids([reference], deadline()):
        return BuiltImage(name=image.name, reference=reference, cached=True)
    request = _request(image, source, reference, named, output)
    with (
        slots.take(exclusive=image.exclusive, deadline=deadline()),
        timeline.span("build", image.name),
    ):
        engine.build(request, deadline=deadline(), log=output / f"{image.name}.log")
    return BuiltImage(name=image.name, reference=reference, cached=False)


def _tag(
    image: Image, source: Source, named: dict[str, str], engine: Engine, deadline: Deadline
) -> str:
    external = base_references(source, named=named)
    ids = engine.image_ids(external, deadline)
    return content_tag(image, source, bases={**dict.fromkeys(external, ""), **ids, **named})


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
        unshown=unshown_arguments(image),
        contexts=named,
        options=image.build_options,
    )


def _from_archive(image: Image, folder: Path, engine: Engine, deadline: Deadline) -> BuiltImage:
    """Load the archive into the engine, once for each content."""
    archive = folder / (image.archive or "")
    reference = f"localhost/{image.name}:{file_tag(archive)}"
    known = bool(engine.image_ids([reference], deadline))
    if not known:
        engine.load(archive, reference, deadline)
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

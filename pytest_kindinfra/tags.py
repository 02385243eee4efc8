"""The references that images get, as far as that can be told without building."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.buildoptions import with_images
from pytest_kindinfra.content import bases_of, content_of, file_tag, read_source
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.content import Content, Source
    from pytest_kindinfra.digests import Digests
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image, Plan

PENDING = "pending: not known until its base image has been pulled"
_SECONDS = 10.0
_PATIENCE = 3.0
"""Seconds for the engine to answer at all: the plan needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """What a build of an image would make.

    Attributes:
        reference: Its name, with the tag of its content.
        source: What it is built from.
        content: What was found in its files.
        contexts: What the Dockerfile calls declared images, to their references.
        options: `build_options` with the references of declared images.
        bases: The other images, to their ids; empty for one that the engine has not got.
    """

    reference: str
    source: Source
    content: Content
    contexts: dict[str, str]
    options: tuple[str, ...]
    bases: dict[str, str]


def tag_image(
    image: Image,
    *,
    named: Mapping[str, str],
    folder: Path,
    ids: Callable[[Sequence[str]], Mapping[str, str]],
    names: Mapping[str, Sequence[str]] | None = None,
    digests: Digests | None = None,
) -> Tagged:
    """Return what a build of an image would make.

    Args:
        image: A declared image that is built.
        named: The declared images that it starts from, to their references.
        folder: Where relative paths start.
        ids: Gives the ids of the other images that it starts from, as far as they are known.
        names: Declared images to the further names that a Dockerfile may call them.
        digests: Knows those of files that were read before.

    Raises:
        KindInfraError: A file cannot be read.
    """
    source = read_source(image, folder=folder)
    further = {name: (names or {}).get(name, ()) for name in named}
    found = bases_of(image, source, names=further)
    known = ids(found.external)
    bases = {reference: known.get(reference, "") for reference in found.external}
    content = content_of(image, source, bases={**bases, **named}, digests=digests)
    called = {reference: named[name] for reference, name in found.declared.items()}
    return Tagged(
        reference=f"localhost/{image.name}:{content.tag}",
        source=source,
        content=content,
        contexts={**named, **called},
        options=with_images(source.options, called.get),
        bases=bases,
    )


def further_names(images: Iterable[Image]) -> dict[str, tuple[str, ...]]:
    """Return the further names of declared images, for `tag_image`."""
    return {image.name: image.names for image in images}


def archive_reference(image: Image, *, folder: Path, digests: Digests | None = None) -> str:
    """Return the reference of an image that comes as an archive.

    Raises:
        OSError: It cannot be read.
    """
    tag = file_tag(folder / (image.archive or ""), digests)
    return f"localhost/{image.name}:{tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What can be said of a plan's images before a run.

    Attributes:
        tags: Image to its reference, or to why that is not known yet.
        engine: The engine's name.
        there: The references that the engine has, built and external ones; None if it did not
            answer.
    """

    tags: dict[str, str]
    engine: str
    there: frozenset[str] | None


def look_up(plan: Plan, engine: Engine) -> Known:
    """Return the references of a plan's images, and which of them the engine has.

    An engine that is not there or does not answer soon is no error.
    """
    answering = engine if _answers(engine) else None
    tags: dict[str, str] = {}
    for image in plan.images:
        tags[image.name] = image.prebuilt or _reference(image, plan, tags, answering)
    references = [*tags.values(), *(one for found in plan.external.values() for one in found)]
    wanted = list(dict.fromkeys(one for one in references if one != PENDING))
    there = None if answering is None else frozenset(_ids(answering, wanted))
    return Known(tags=tags, engine=engine.name, there=there)


def _answers(engine: Engine) -> bool:
    with suppress(KindInfraError):
        return bool(engine.check(Deadline.after(_PATIENCE)))
    return False


def _ids(engine: Engine | None, references: Sequence[str]) -> Mapping[str, str]:
    with suppress(KindInfraError):
        return engine.image_ids(references, Deadline.after(_SECONDS)) if engine else {}
    return {}


def _reference(image: Image, plan: Plan, tags: dict[str, str], engine: Engine | None) -> str:
    folder = plan.declaration.folder
    if image.archive:
        return archive_reference(image, folder=folder)
    named = {name: tags[name] for name in image.needs}
    if PENDING in named.values():
        return PENDING
    names = further_names(plan.declaration.images)
    ids = partial(_ids, engine)
    tagged = tag_image(image, named=named, folder=folder, ids=ids, names=names)
    return tagged.reference if all(tagged.bases.values()) else PENDING

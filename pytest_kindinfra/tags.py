"""The references that images get, as far as that can be told without building."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.content import base_references, content_tag, file_tag, read_source
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.content import Source
    from pytest_kindinfra.digests import Digests
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image, Plan

PENDING = "pending: hangs on a base image that is not here"
_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """What a build of an image would make.

    Attributes:
        reference: Its name, with the tag of its content.
        source: What it is built from.
        named: The declared images that it starts from, to their references.
        bases: The other ones, to their ids; empty for one that the engine has not got.
    """

    reference: str
    source: Source
    named: dict[str, str]
    bases: dict[str, str]


def tag_image(
    image: Image,
    *,
    named: Mapping[str, str],
    folder: Path,
    ids: Callable[[Sequence[str]], Mapping[str, str]],
    digests: Digests | None = None,
) -> Tagged:
    """Return what a build of an image would make.

    Args:
        image: A declared image that is built.
        named: The declared images that it starts from, to their references.
        folder: Where relative paths start.
        ids: Gives the ids of the other images that it starts from, as far as they are known.
        digests: Knows those of files that were read before.

    Raises:
        KindInfraError: A file cannot be read.
    """
    source = read_source(image, folder=folder)
    external = base_references(source, named=named)
    known = ids(external)
    bases = {reference: known.get(reference, "") for reference in external}
    tag = content_tag(image, source, bases={**bases, **named}, digests=digests)
    return Tagged(
        reference=f"localhost/{image.name}:{tag}", source=source, named=dict(named), bases=bases
    )


def archive_reference(image: Image, *, folder: Path, digests: Digests | None = None) -> str:
    """Return the reference of an image that comes as an archive.

    Raises:
        OSError: It cannot be read.
    """
    tag = file_tag(folder / (image.archive or ""), digests)
    return f"localhost/{image.name}:{tag}"


def known_tags(plan: Plan, engine: Engine) -> dict[str, str]:
    """Return, for each image of the plan, its reference or why it is not known.

    An engine that is not there or does not answer is no error: what it would say is pending.
    """
    tags: dict[str, str] = {}
    for image in plan.images:
        tags[image.name] = image.prebuilt or _reference(image, plan, tags, engine)
    return tags


def _reference(image: Image, plan: Plan, tags: dict[str, str], engine: Engine) -> str:
    folder = plan.declaration.folder
    if image.archive:
        return archive_reference(image, folder=folder)
    named = {name: tags[name] for name in image.needs}
    if PENDING in named.values():
        return PENDING

    def ids(references: Sequence[str]) -> dict[str, str]:
        if shutil.which(engine.name):
            with suppress(KindInfraError):
                return engine.image_ids(references, Deadline.after(_SECONDS))
        return {}

    tagged = tag_image(image, named=named, folder=folder, ids=ids)
    return tagged.reference if all(tagged.bases.values()) else PENDING

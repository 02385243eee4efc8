"""The references that images would get, as far as that can be told without building."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.content import base_references, content_tag, file_tag, read_source
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.model import Image, Plan

PENDING = "pending: hangs on a base image that is not here"
_SECONDS = 10.0


def known_tags(plan: Plan, engine: Engine) -> dict[str, str]:
    """Return, for each image of the plan, its reference or why it is not known.

    An engine that is not there or does not answer is no error: what it would say is pending.
    """
    tags: dict[str, str] = {}
    for image in plan.images:
        tags[image.name] = image.prebuilt or _reference(image, plan, tags, engine)
    return tags


def _reference(image: Image, plan: Plan, tags: dict[str, str], engine: Engine) -> str:
    if image.archive:
        return f"localhost/{image.name}:{file_tag(plan.declaration.folder / image.archive)}"
    return _tag(image, plan, tags, engine)


def _tag(image: Image, plan: Plan, tags: dict[str, str], engine: Engine) -> str:
    named = {name: tags[name] for name in image.needs}
    if PENDING in named.values():
        return PENDING
    source = read_source(image, folder=plan.declaration.folder)
    external = base_references(source, named=named)
    ids: dict[str, str] = {}
    if shutil.which(engine.name):
        with suppress(KindInfraError):
            ids = engine.image_ids(external, Deadline.after(_SECONDS))
    if set(external) - set(ids):
        return PENDING
    return f"localhost/{image.name}:{content_tag(image, source, bases={**ids, **named})}"

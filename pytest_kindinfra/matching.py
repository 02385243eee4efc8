"""Which declared image an image reference in a manifest means.

Pure; it must not know manifests or engines.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.references import is_bare_or_local, last_part, normalise, split

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.model import Image

_NEAR = 0.8
"""`datastorge` is near `datastorage` (0.95), `postgres` is not near `postgres-init` (0.76): an
error about an image that is meant to be another one would be worse than a missed typo."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What the image references of one service mean.

    Attributes:
        images: Reference as written to the declared image's name.
        external: References as written that no declared image means.
        problems: References that are nearly a declared image, without a place.
    """

    images: dict[str, str] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def match_references(references: Iterable[str], images: Iterable[Image]) -> Uses:
    """Sort references into those of declared images, external ones, and likely mistakes."""
    known = tuple(images)
    used: dict[str, str] = {}
    external: list[str] = []
    problems: list[str] = []
    for reference in references:
        name = _meant(reference, known)
        if name is not None:
            used[reference] = name
        elif near := _near_miss(reference, known):
            problems.append(_near_problem(reference, near))
        else:
            external.append(reference)
    return Uses(used, tuple(external), tuple(problems))


def _meant(reference: str, images: tuple[Image, ...]) -> str | None:
    """Return the image whose further names have that reference, or whose name is its last part."""
    for image in images:
        if any(_same(reference, name) for name in image.names):
            return image.name
    name = last_part(reference)
    return next((image.name for image in images if image.name == name), None)


def _same(reference: str, name: str) -> bool:
    """Whether a further name means the reference; without a tag it means every tag."""
    full, wanted = normalise(reference), normalise(name)
    if full == wanted:
        return True
    has_tag = ":" in name.rpartition("/")[2] or "@" in name
    return not has_tag and split(full)[0] == split(wanted)[0]


def _near_miss(reference: str, images: tuple[Image, ...]) -> str | None:
    if not is_bare_or_local(reference):
        return None
    names = [image.name for image in images]
    near = difflib.get_close_matches(last_part(reference), names, n=1, cutoff=_NEAR)
    return near[0] if near else None


def _near_problem(reference: str, near: str) -> str:
    escape = ""
    if "/" not in reference:
        # Not the full form: a missing tag stays missing.
        escape = f' (a registry\'s image: write "docker.io/library/{reference}")'
    return f'image "{reference}": no such image; did you mean "{near}"?{escape}'

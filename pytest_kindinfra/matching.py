"""Which declared image an image reference in a manifest means.

Pure; it must not know manifests or engines.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.references import (
    has_digest,
    is_bare_or_local,
    is_reference,
    last_part,
    normalise,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pytest_kindinfra.model import Image

_NEAR = 0.8
"""`datastorge` is near `datastorage` (0.95), `postgres` is not near `postgres-init` (0.76): an
error about an image that is meant to be another one would be worse than a missed typo."""
_SHORTEST, _SHORT = 3, 4
"""Letters of names that are near if one edit leads from one to the other: no ratio tells `wbe`,
which is near `web`, from `nats`, which is not near `auth`."""
_WELL_KNOWN = frozenset(
    {
        *("bash", "caddy", "crate", "dart", "flink", "gcc", "ghost", "haxe", "httpd", "julia"),
        *("kong", "mongo", "mysql", "nats", "neo4j", "nginx", "node", "odoo", "perl", "php"),
        *("pypy", "redis", "ros", "ruby", "rust", "solr", "spark", "storm", "swift", "swipl"),
        *("unit", "vault", "xwiki"),
    }
)
"""Images of Docker Hub whose bare names are meant as they stand, such as `node` beside `code`."""
_PLACEHOLDERS = "${image:NAME}, ${image:NAME:repository} and ${image:NAME:tag}"


@dataclass(frozen=True, slots=True)
class Uses:
    """What the image references of one service mean.

    Attributes:
        images: Reference as written to the declared image's name.
        external: References as written that no declared image means.
        problems: References that are mistakes, such as nearly a declared image, to what is wrong.
    """

    images: dict[str, str] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)


def match_references(
    references: Iterable[str], images: Iterable[Image], *, in_pods: Collection[str] = ()
) -> Uses:
    """Sort references into those of declared images, external ones, and likely mistakes.

    Args:
        references: As written.
        images: All declared ones.
        in_pods: Those that a kubelet reads as they are; custom resources may have templates.
    """
    known = tuple(images)
    used: dict[str, str] = {}
    external: list[str] = []
    problems: dict[str, str] = {}
    for reference in references:
        name = _meant(reference, known)
        if name is not None:
            used[reference] = name
        elif reference in in_pods and not is_reference(reference):
            problems[reference] = _form_problem(reference)
        elif near := _near_miss(reference, known):
            problems[reference] = _near_problem(reference, near)
        else:
            external.append(reference)
    return Uses(used, tuple(external), problems)


def _meant(reference: str, images: tuple[Image, ...]) -> str | None:
    """Return the image whose further names have that reference, or whose name is its last part.

    The last part counts only where no registry and no digest is named: the last words of
    `registry.k8s.io/ingress-nginx/controller` and of a project's own `controller` are the same by
    chance.
    """
    for image in images:
        if any(_same(reference, name) for name in image.names):
            return image.name
    if not is_bare_or_local(reference) or has_digest(reference):
        return None
    name = last_part(reference)
    return next((image.name for image in images if image.name == name), None)


def _same(reference: str, name: str) -> bool:
    """Whether a further name means the reference; without a tag it means every tag."""
    full, wanted = normalise(reference), normalise(name)
    if full == wanted:
        return True
    has_tag = ":" in name.rpartition("/")[2] or "@" in name
    return not has_tag and split(full)[0] == split(wanted)[0]


def same_last_part(references: Iterable[str], name: str) -> list[str]:
    """Return those of the references that are not an image only for their registry or digest."""
    return [reference for reference in references if last_part(reference) == name]


def _near_miss(reference: str, images: tuple[Image, ...]) -> str | None:
    if not is_bare_or_local(reference) or has_digest(reference):
        return None
    word, names = last_part(reference), [image.name for image in images]
    if word in _WELL_KNOWN and "/" not in reference:
        return None
    near = difflib.get_close_matches(word, names, n=1, cutoff=_NEAR)
    if not near:
        near = [
            name for name in names if _SHORTEST <= len(name) <= _SHORT and _one_edit(word, name)
        ]
    return near[0] if near else None


def _one_edit(word: str, name: str) -> bool:
    """Whether one letter more, less or changed, or two letters exchanged, make one of the other."""
    if len(word) > len(name):
        word, name = name, word
    start = next((n for n, (a, b) in enumerate(zip(word, name, strict=False)) if a != b), len(word))
    rest, wanted = word[start:], name[start:]
    if len(rest) < len(wanted):
        return rest == wanted[1:]
    return rest[1:] == wanted[1:] or (rest[:2] == wanted[1::-1] and rest[2:] == wanted[2:])


def _form_problem(reference: str) -> str:
    hint = ""
    if any(sign in reference for sign in "${}"):
        hint = f"; placeholders are {_PLACEHOLDERS}"
    return f'image "{reference}": that is no image reference{hint}'


def _near_problem(reference: str, near: str) -> str:
    escape = ""
    if "/" not in reference:
        # Not the full form: a missing tag stays missing.
        escape = f' (a registry\'s image: write "docker.io/library/{reference}")'
    return f'image "{reference}": no such image; did you mean "{near}"?{escape}'

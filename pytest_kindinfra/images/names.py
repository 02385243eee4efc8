"""The names that an image of this project has in the engine.

`localhost/NAME:CONTENT` names what the built image holds: pods run it, and kind nodes that list it
need no load. `localhost/NAME:ctx-CONTEXT` names what the image was built from, and answers only
whether it must be built again. So a build that was repeated for a change that is not in the image
changes no reference (docs/decisions/0070). Both names are in the engine, where every user, every
process and a run without a cache folder find them. It must not know builds.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pytest_kindinfra.references import split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kindinfra.protocols.engine import Engine, ImageContent
    from pytest_kindinfra.system.timeline import Deadline


_PREFIX = "ctx-"


_DIGITS = 16


def context_tag(digest: str, bases: Mapping[str, str] | None = None) -> str:
    """Return the tag for what an image is built from.

    Args:
        digest: A hash of all that its build can see, in hexadecimal.
        bases: Each image it starts from to its id, or to its reference if it is a declared one.
    """
    whole = hashlib.sha256(repr((digest, sorted((bases or {}).items()))).encode())
    return f"{_PREFIX}{whole.hexdigest()[:_DIGITS]}"


def is_context_name(reference: str) -> bool:
    """Whether a name says what an image was built from, and not what is in it."""
    return split(reference)[1].startswith(_PREFIX)


def content_name(image: str, content: ImageContent) -> str:
    """Return the reference that names what an image holds.

    Args:
        image: The declared name.
        content: What the engine has.
    """
    return f"localhost/{image}:{content.digest[:_DIGITS]}"


def find_by_context(
    engine: Engine, image: str, contexts: Iterable[str], deadline: Deadline
) -> str | None:
    """Return the reference of an image that was built before; None if the engine lacks it.

    Args:
        engine: Who may have it.
        image: The declared name.
        contexts: Its names by context. The first decides; the image gets the others as well.
        deadline: When to give up.

    Raises:
        CommandError: The engine did not answer.
    """
    first, *others = dict.fromkeys(contexts)
    found = engine.image_contents([first], deadline).get(first)
    return _complete(engine, image, first, found, others, deadline) if found else None


def give_names(
    engine: Engine, image: str, built: str, contexts: Iterable[str], deadline: Deadline
) -> str:
    """Name an image that the engine has, and return the reference of its content.

    An image of the same content that was built earlier keeps the name: it differs only in its
    creation times, and is the one that a registry and kind nodes have.

    Args:
        engine: Who has it.
        image: The declared name.
        built: A name of it that tells nothing.
        contexts: Its names by context.
        deadline: When to give up.

    Raises:
        CommandError: It is gone, or the engine did not answer.
    """
    first = next(iter(contexts))
    if (found := engine.image_contents([built], deadline).get(built)) is None:
        engine.tag(built, first, deadline)  # says why
        found = engine.image_contents([first], deadline)[first]
    return _complete(engine, image, built, found, list(dict.fromkeys(contexts)), deadline)


def _complete(
    engine: Engine,
    image: str,
    known_as: str,
    found: ImageContent,
    contexts: Iterable[str],
    deadline: Deadline,
) -> str:
    """Have the engine know an image by its content, and by all that it was built from."""
    reference = content_name(image, found)
    names = frozenset(found.names)
    if reference not in names:
        earlier = engine.image_contents([reference], deadline).get(reference)
        if earlier is not None and earlier.digest == found.digest:
            names = frozenset(earlier.names)
        else:  # the name was removed, or given to another image
            engine.tag(known_as, reference, deadline)
    for name in contexts:
        if name not in names:
            engine.tag(reference, name, deadline)
    return reference

"""Turn a name that nobody knows into a hint. Pure; it must not know what is being named."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "NAME"?` with the nearest known name, or nothing if none is near."""
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{nearest[0]}"?' if nearest else ""


def listed(names: Iterable[str]) -> str:
    """Return the names quoted and parted by commas, `none` if there are none."""
    return ", ".join(f'"{name}"' for name in names) or "none"

"""Which run used an image last, in the user's cache folder: an engine does not say.

A file for each reference, so that runs side by side do not write over each other.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.cache import read, write

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUse:
    """The last use of an image.

    Attributes:
        run: The run directory.
        at: When, in seconds since the epoch.
    """

    run: Path
    at: float


def note_use(cache: Path, references: Iterable[str], use: ImageUse) -> list[str]:
    """Keep that a run uses these images now; return what is wrong with that."""
    value = {"run": str(use.run), "at": use.at}
    notes = (
        write(_file(cache, reference), {**value, "reference": reference})
        for reference in references
    )
    return [problem for problem in notes if problem]


def read_uses(cache: Path) -> dict[str, ImageUse]:
    """Return the last use of each image that was noted."""
    uses: dict[str, ImageUse] = {}
    for path in sorted((cache / "images").glob("*.json")):
        value, _ = read(path)
        reference, run, at = (value.get(key) for key in ("reference", "run", "at"))
        if isinstance(reference, str) and isinstance(run, str) and isinstance(at, int | float):
            uses[reference] = ImageUse(run=Path(run), at=float(at))
    return uses


def forget_use(cache: Path, reference: str) -> None:
    """Forget an image that is gone."""
    with suppress(OSError):
        _file(cache, reference).unlink()


def _file(cache: Path, reference: str) -> Path:
    return cache / "images" / f"{sha256(reference.encode()).hexdigest()[:_NAME_DIGITS]}.json"

"""What runs remember for later ones, in the cache folder: durations, sizes and uses of images."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.system.files import write_whole
from pytest_kindinfra.system.timeline import phase_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kindinfra.model import Declaration, Phase


_DURATIONS = "durations"
_SIZES = "sizes"
_USES = "images"
"""Folders in the cache folder."""


_NAME_DIGITS = 16


def cache_folder() -> Path:
    """Return the folder as the platform has it: `~/.cache/pytest-kindinfra` on Linux."""
    from platformdirs import user_cache_path

    return user_cache_path("pytest-kindinfra", appauthor=False)


def file_for(folder: Path, kind: str, about: Path) -> Path:
    """Return the file of one kind of knowledge about one folder of the user's.

    Args:
        folder: The cache folder.
        kind: What is known: `durations`.
        about: The folder that it is known of.
    """
    name = sha256(os.fsencode(about.resolve())).hexdigest()[:_NAME_DIGITS]
    return folder / kind / f"{name}.json"


def read(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return what was kept there, and what is wrong with it; nothing and None if nothing was."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"{path}: {error}"
    return (value, None) if isinstance(value, dict) else ({}, f"{path}: not a mapping")


def write(path: Path, value: dict[str, Any]) -> str | None:
    """Keep `value` there; return why that was not possible."""
    try:
        write_whole(path, json.dumps(value))
    except OSError as error:
        return f"{path}: {error}"
    return None


def read_durations(cache: Path, folder: Path) -> tuple[dict[str, float], str | None]:
    """Return the seconds of each phase by its name, and what is wrong with the file.

    Args:
        cache: The cache folder.
        folder: The project's.
    """
    kept, problem = read(file_for(cache, _DURATIONS, folder))
    seconds = kept.get("seconds", {})
    good = seconds if isinstance(seconds, dict) else {}
    return {
        name: float(value)
        for name, value in good.items()
        if isinstance(value, int | float) and value >= 0
    }, problem


def keep_durations(cache: Path, declaration: Declaration, phases: Iterable[Phase]) -> str | None:
    """Keep how long each phase that went well took; return why that was not possible.

    What this run did not do keeps its earlier seconds, as long as it is declared.
    """
    folder = declaration.folder
    declared = {image.name for image in declaration.images}
    declared |= {service.name for service in declaration.services}
    new = {one.name: one.end - one.start for one in phases if one.ok and phase_kind(one.kind).ranks}
    if not new:
        return None
    seconds = read_durations(cache, folder)[0] | new
    kept = {name: round(value, 3) for name, value in seconds.items() if _what(name) in declared}
    return write(
        file_for(cache, _DURATIONS, folder), {"folder": str(folder.resolve()), "seconds": kept}
    )


def _what(phase: str) -> str:
    return phase.partition(" ")[2]


Layers = dict[str, int]
"""Digest to bytes, unpacked or as they were sent."""


def read_sizes(cache: Path, folder: Path) -> dict[str, Layers]:
    """Return the layers of each image by what it is called: a declared name, or a full reference.

    Args:
        cache: The cache folder.
        folder: The project's.
    """
    kept, _ = read(file_for(cache, _SIZES, folder))
    images = kept.get("images")
    found = images.items() if isinstance(images, dict) else ()
    return {name: _good(layers) for name, layers in found if isinstance(layers, dict)}


def keep_sizes(cache: Path, folder: Path, new: Mapping[str, Layers]) -> str | None:
    """Keep what was found out in a run; return why that was not possible.

    What this run did not load stays as it was.
    """
    if not new:
        return None
    images = {**read_sizes(cache, folder), **new}
    return write(
        file_for(cache, _SIZES, folder), {"folder": str(folder.resolve()), "images": images}
    )


def _good(layers: Mapping[str, object]) -> Layers:
    return {digest: size for digest, size in layers.items() if isinstance(size, int) and size >= 0}


_USE_DIGITS = 32


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
    for path in sorted((cache / _USES).glob("*.json")):
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
    return cache / _USES / f"{sha256(reference.encode()).hexdigest()[:_NAME_DIGITS]}.json"

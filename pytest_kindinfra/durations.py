"""How long builds and services of a project took in earlier runs, in the user's cache folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.cache import file_for, read, write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_kindinfra.model import Declaration, Phase

_KINDS = ("build", "deploy", "wait", "run")


def read_durations(cache: Path, folder: Path) -> tuple[dict[str, float], str | None]:
    """Return the seconds of each phase by its name, and what is wrong with the file.

    Args:
        cache: The cache folder.
        folder: The project's.
    """
    kept, problem = read(file_for(cache, "durations", folder))
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
    new = {one.name: one.end - one.start for one in phases if one.ok and one.kind in _KINDS}
    if not new:
        return None
    seconds = read_durations(cache, folder)[0] | new
    kept = {name: round(value, 3) for name, value in seconds.items() if _what(name) in declared}
    return write(
        file_for(cache, "durations", folder), {"folder": str(folder.resolve()), "seconds": kept}
    )


def _what(phase: str) -> str:
    return phase.partition(" ")[2]

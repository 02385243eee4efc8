"""Where declarations are: the one that counts, and those nearby that were not read.

It reads files and must not know pytest.
"""

from __future__ import annotations

import os.path
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.plan.files import DECLARATION_FILE, PROJECT_FILE, load_tables, read_toml

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_TABLE = "kindinfra"


_CLOSE = 0.75
"""How alike a name must be, as difflib counts: `kind-infra.yaml` is, `kind.toml` is not."""


_MOST_FOLDERS = 200
"""Folders of a rootdir that are looked into; a user's home folder has thousands."""


@dataclass(frozen=True, slots=True)
class Nearby:
    """What was found in addition to the rootdir's own declaration.

    Attributes:
        declarations: Files that were not read.
        misnamed: What may have been meant as a declaration: files, and tables of pyproject.toml.
    """

    declarations: tuple[Path, ...]
    misnamed: tuple[str, ...]

    def above(self, places: Iterable[Path]) -> Nearby | None:
        """Return only the declarations that tests in `places` may count on, None without one."""
        folders = {folder for place in places for folder in (place, *place.parents)}
        found = tuple(file for file in self.declarations if file.parent in folders)
        return Nearby(found, ()) if found else None


def declaration_folder(start: Path) -> Path:
    """Return `start` or the nearest folder above it that has a declaration; `start` without one."""
    for folder in (start, *start.parents):
        if _declaration_in(folder):
            return folder
    return start


def look_nearby(rootdir: Path, starts: Iterable[Path]) -> Nearby:
    """Look for declarations that pytest's rootdir hides.

    Args:
        rootdir: Where the declaration was looked for; all paths are absolute.
        starts: Files and folders of tests.

    Returns:
        What is in the folders of the tests, from there up to the rootdir, above the rootdir up to
        the checkout's top, and one below the rootdir.
    """
    folders = dict.fromkeys(
        folder
        for group in (
            *(_upwards(_folder_of(start), rootdir) for start in starts),
            _to_top(rootdir),
            _below(rootdir),
        )
        for folder in group
    )
    found = (_declaration_in(folder) for folder in folders if folder != rootdir)
    misnamed = [str(file) for folder in {rootdir: None, **folders} for file in _misnamed(folder)]
    return Nearby(tuple(file for file in found if file), (*misnamed, *_misnamed_tables(rootdir)))


def _folder_of(path: Path) -> Path:
    return path.parent if _is_file(path) else path


def _upwards(start: Path, rootdir: Path) -> Iterator[Path]:
    """Yield `start` and what is above it, as far as the rootdir or what both are in."""
    end = Path(os.path.commonpath((start, rootdir)))
    for folder in (start, *start.parents):
        yield folder
        if folder == end:
            return


def _to_top(rootdir: Path) -> Iterator[Path]:
    """Yield what is above the rootdir, in the same checkout."""
    for folder in (rootdir, *rootdir.parents):
        yield folder
        if _exists(folder / ".git"):
            return


def _below(rootdir: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(path for path in rootdir.iterdir() if path.is_dir())[:_MOST_FOLDERS]
    return []


def _declaration_in(folder: Path) -> Path | None:
    """Return the file in `folder` that has a declaration, right or wrong."""
    if _is_file(file := folder / DECLARATION_FILE):
        return file
    if not _is_file(file := folder / PROJECT_FILE):
        return None
    try:
        return file if load_tables(folder) else None
    except DeclarationError:
        with suppress(OSError, ValueError):
            return file if f"[tool.{_TABLE}" in file.read_text("utf-8") else None
        return None


def _misnamed(folder: Path) -> list[Path]:
    """Return the files whose names are nearly that of a declaration."""
    with suppress(OSError):
        files = [path for path in folder.iterdir() if path.is_file()]
        names = {path.name.lower(): path for path in files if path.name != DECLARATION_FILE}
        close = get_close_matches(DECLARATION_FILE, names, n=2, cutoff=_CLOSE)
        return [names[name] for name in close]
    return []


def _misnamed_tables(folder: Path) -> Iterator[str]:
    """Yield the tables of pyproject.toml whose names are nearly that of a declaration."""
    with suppress(DeclarationError):
        tables = read_toml(folder / PROJECT_FILE) or {}
        tools = tables.get("tool")
        names = [str(name) for name in tools] if isinstance(tools, dict) else []
        for name in get_close_matches(_TABLE, names, n=2, cutoff=_CLOSE):
            if name != _TABLE:
                yield f"[tool.{name}] in {folder / PROJECT_FILE}"
        if _TABLE in tables:
            yield f"[{_TABLE}] in {folder / PROJECT_FILE}, which must be [tool.{_TABLE}]"


def _is_file(path: Path) -> bool:
    return _exists(path) and not path.is_dir()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be entered
        return False

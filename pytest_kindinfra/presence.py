"""Whether a path leads to something: it is there, it is gone, or nobody here can tell.

`Path.exists`, `is_dir` and `is_file` answer "no" where they may not look: for some errors up to
Python 3.13, for all of them from 3.14 on. Whoever deletes or makes anew what is not there must not
believe that. Here only ENOENT and ENOTDIR mean "gone", and everything else is raised.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def look(path: Path | str) -> os.stat_result | None:
    """Return what the path leads to, None if there is nothing.

    Raises:
        OSError: Nobody here can tell: no permission, a loop of links, a stale network file.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - the errors of `Path.stat` are the same
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_there(path: Path | str) -> bool:
    """Whether the path leads to anything; raises OSError if nobody here can tell."""
    return look(path) is not None


def is_folder(path: Path | str) -> bool:
    """Whether the path leads to a folder; raises OSError if nobody here can tell."""
    found = look(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(path: Path | str) -> bool:
    """Whether the path leads to a regular file; raises OSError if nobody here can tell."""
    found = look(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def size_of(path: Path | str) -> int:
    """Return the bytes of a file, 0 if it is gone; raises OSError if nobody here can tell."""
    found = look(path)
    return found.st_size if found else 0


def why_no_file(path: Path | str) -> str:
    """Return why the path leads to no file, for messages; empty if it does."""
    return _why_not(path, is_file, "no such file")


def why_no_folder(path: Path | str) -> str:
    """Return why the path leads to no folder, for messages; empty if it does."""
    return _why_not(path, is_folder, "no such folder")


def _why_not(path: Path | str, is_it: Callable[[Path | str], bool], missing: str) -> str:
    try:
        return "" if is_it(path) else missing
    except OSError as error:
        return str(error.strerror or error)

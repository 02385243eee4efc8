"""Files that other processes read: there whole or not at all, and believed only if they are ours.

A file is written aside and renamed, so that a reader sees the old one or the new one. Around each
value stands the number of this format: a file of another version, or one that somebody damaged,
is named and not believed. It must not know what the values mean.
"""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pytest_kindinfra.errors import StateError

FORMAT = 1
"""To be raised when a later version could misread what an earlier one wrote."""

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, mode 0600, so that readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, indent=1)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def write_state(path: Path, value: Any) -> None:
    """Write a value for `read_state`."""
    write_json(path, {"format": FORMAT, "value": value})


def read_state(path: Path) -> Any:
    """Return what `write_state` wrote, None if nothing was.

    Raises:
        StateError: The file cannot be believed; says why.
    """
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StateError(_unbelieved(path, f"cannot be read: {error}")) from error
    if not isinstance(found, dict) or "value" not in found:
        raise StateError(_unbelieved(path, "is none of ours"))
    if found.get("format") != FORMAT:
        why = f"has format {found.get('format')}, this version of pytest-kindinfra reads {FORMAT}"
        raise StateError(_unbelieved(path, why))
    return found["value"]


def _unbelieved(path: Path, why: str) -> str:
    return f'the state file "{path}" {why}'

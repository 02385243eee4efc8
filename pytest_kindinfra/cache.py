"""The user's cache folder: what earlier runs found out, and would cost time to find out again.

Losing it costs time and nothing else. So whatever is wrong with it comes back as a sentence for
run.json and is never raised. Each file is written aside and renamed, so that of two runs that
write at once the later one stays, whole. It must not know what is kept.
"""

from __future__ import annotations

import json
import os
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

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
    aside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(value))
        Path(aside).replace(path)
    except OSError as error:
        if aside:
            Path(aside).unlink(missing_ok=True)
        return f"{path}: {error}"
    return None

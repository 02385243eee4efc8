"""Files that only their owner may read, from the moment they are there."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

_MODE = 0o600


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600."""
    with open_private(path, "wb") as file:
        file.write(text.encode())


def append_private(path: Path, text: str) -> None:
    """Add to a file of mode 0600, which is made if it is missing."""
    with open_private(path, "ab") as file:
        file.write(text.encode())


def open_private(path: Path, mode: str) -> IO[bytes]:
    """Open a file, which gets the mode 0600 if it is made; `mode` is a binary one of `open`."""
    return cast("IO[bytes]", open(path, mode, opener=_open))


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, _MODE)

"""Files and folders that only their owner may use, from the moment they are there."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pathlib import Path

_MODE = 0o600
_FOLDER_MODE = 0o700


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


def own_folder(folder: Path) -> None:
    """Make a folder that only this user can enter, in one where others can make folders too.

    Raises:
        OSError: Another user has something there, or there is no folder.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=_FOLDER_MODE, parents=True)
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(file)
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "it is not a folder of this user", str(folder))
        if stat.S_IMODE(found.st_mode) != _FOLDER_MODE:
            os.fchmod(file, _FOLDER_MODE)
    finally:
        os.close(file)

"""Files and ports of this machine: private files, text with a byte order mark, presence.

`Path.exists` answers "no" where it may not look. Here only ENOENT and ENOTDIR mean "gone"; every
other error is raised, since nothing may be deleted or replaced for it.
"""

from __future__ import annotations

import codecs
import errno
import os
import socket
import stat
from contextlib import suppress
from random import SystemRandom
from typing import IO, TYPE_CHECKING, cast

from pytest_kindinfra.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from contextlib import ExitStack
    from pathlib import Path


_MODE = 0o600


_FOLDER_MODE = 0o700


_RANDOM_BITS = 64


DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Numbers of errors that say that there is no room for what was written."""


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600."""
    with open_private(path, "wb") as file:
        file.write(text.encode())


def append_private(path: Path, text: str) -> None:
    """Add to a file of mode 0600, which is made if it is missing."""
    with open_private(path, "ab") as file:
        file.write(text.encode())


def write_whole(path: Path, text: str, *, mode: int = _MODE) -> None:
    """Write a file so that readers see the old one or the new one, never a part of it.

    Args:
        path: The file; its folder is made if it is missing.
        text: Its content.
        mode: Its permissions, less those that the umask takes away.

    Raises:
        OSError: It cannot be written; the old file is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}-{SystemRandom().getrandbits(_RANDOM_BITS):x}")
    try:
        with open(aside, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(text.encode())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


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


_QUIET_PORTS = range(20000, 30000)
"""Below those that systems give to programs that ask for any: 32768 and up on Linux. A
port that was just found free there may be an outgoing connection's in the next moment."""


_DRAWS = 20


def free_port(
    sockets: ExitStack, unusable: Container[int | None] = (), *, address: str = "127.0.0.1"
) -> int:
    """Return a port that is free.

    Args:
        sockets: Keeps the port until it is closed, so that the next call finds another.
        unusable: Ports that will not do.
        address: On which it is to be free.

    Raises:
        ClusterError: There is none.
    """
    draws = (SystemRandom().choice(_QUIET_PORTS) for _ in range(_DRAWS))
    for port in (*(port for port in draws if port not in unusable), 0):
        listener = sockets.enter_context(socket.socket(family_of(address)))
        with suppress(OSError):
            listener.bind((address, port))
            found: int = listener.getsockname()[1]
            return found
    msg = f"no port of {address} is free"
    raise ClusterError(msg)


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of an IP address, as sockets name it."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _look(path: Path | str) -> os.stat_result | None:
    """Return what the path leads to, None if there is nothing.

    Raises:
        OSError: That is unknown: no permission, a loop of links, a stale network file.
    """
    try:
        return os.stat(path)  # noqa: PTH116 - the errors of `Path.stat` are the same
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_there(path: Path | str) -> bool:
    """Whether the path leads to anything; raises OSError if that is unknown."""
    return _look(path) is not None


def is_folder(path: Path | str) -> bool:
    """Whether the path leads to a folder; raises OSError if that is unknown."""
    found = _look(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_file(path: Path | str) -> bool:
    """Whether the path leads to a regular file; raises OSError if that is unknown."""
    found = _look(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def size_of(path: Path | str) -> int:
    """Return the bytes of a file, 0 if it is gone; raises OSError if that is unknown."""
    found = _look(path)
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


# UTF-32 first: its little-endian mark begins with that of UTF-16.
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: Path) -> str:
    """Return the text of a file without its byte order mark, with LF as the end of each line.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not in its encoding.
    """
    return _decoded(path.read_bytes())


def _decoded(content: bytes) -> str:
    """Return the text of a file's content; see `read_text`.

    Raises:
        ValueError: It is not in its encoding.
    """
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")

"""Fixed host ports that somebody else has: found before anything is built, with the holder.

The holder is read from /proc, so it is named on Linux only, and only where we may look.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.freeports import family_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.model import PortMapping

_LISTEN = "0A"


def busy_ports(mappings: Iterable[PortMapping], *, address: str = "127.0.0.1") -> tuple[str, ...]:
    """Return a sentence for each fixed host port that another process has on an address."""
    return tuple(
        f'[services.{one.service}] endpoint "{one.endpoint}": host port {one.host_port} is busy'
        f"{_held_by(one.host_port)}"
        for one in mappings
        if one.host_port and _is_taken(address, one.host_port)
    )


def _is_taken(address: str, port: int) -> bool:
    """Whether it is in use; other refusals (a port below 1024) are not the engine's."""
    with suppress(OSError), socket.socket(family_of(address)) as listener:
        # As the engine binds: a connection that was closed a moment ago does not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _held_by(port: int) -> str:
    for inode in _listeners(port):
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(os.readlink(fd) == f"socket:[{inode}]" for fd in (process / "fd").iterdir()):  # noqa: PTH115 - no path, but a name in brackets
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    return f", held by process {process.name}: {command.strip()[:120]}"
    return ""


def _listeners(port: int) -> Iterator[str]:
    """Give the inodes of the sockets that listen on `port` (proc(5), /proc/net/tcp)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]

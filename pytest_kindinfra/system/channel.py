"""Lines of text between two processes, and open files with them.

One of the two may run tests, which replace `socket.socket`, `time.sleep`, `threading` or the
clocks of their process, hold the interpreter's lock, or fork. So everything here is bound when the
channel is made, before a test runs; threads are the interpreter's own also where gevent has
replaced them; and no call but `lines` and `flush` ever waits, so that signal handlers may send.
"""

from __future__ import annotations

import importlib
import os
import struct
import sys
from _queue import Empty, SimpleQueue
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    SCM_RIGHTS,
    SHUT_RDWR,
    SO_RCVTIMEO,
    SOCK_STREAM,
    SOL_SOCKET,
    socketpair,
)
from _socket import socket as _Socket  # noqa: N812 - a class
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_BYTES = 1 << 16
_LOOK_EVERY = struct.pack("ll", 0, 500_000)
"""Half a second, as setsockopt(2) has it; one of Python's own would count for sending too."""
_INTEGER = array("i").itemsize
_ROOM_FOR_FILES = CMSG_SPACE(8 * _INTEGER)


def channel_pair() -> tuple[Channel, int]:
    """Return a new channel, and the descriptor of its other end for a program to inherit."""
    here, there = socketpair(AF_UNIX, SOCK_STREAM)
    return Channel(here.detach()), there.detach()


class Channel:
    """One end of a connection between two processes.

    Args:
        file: The descriptor of a Unix socket, closed by `close`.

    Attributes:
        files: Descriptors that the other process passed on: those of a line are there when the line
            is. For the receiver to take and to close.
    """

    def __init__(self, file: int) -> None:
        self.files: list[int] = []
        os.set_inheritable(file, False)  # noqa: FBT003 - it came by inheritance, and goes no further
        self._socket = _Socket(fileno=file)
        self._socket.settimeout(None)  # whatever `socket.setdefaulttimeout` was given
        self._socket.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _LOOK_EVERY)
        self._outgoing: SimpleQueue[tuple[bytes, tuple[int, ...]] | None] = SimpleQueue()
        self._written: SimpleQueue[None] = SimpleQueue()
        run_in_thread(self._write)

    def send(self, text: str, files: Sequence[int] = ()) -> None:
        """Send a line; dropped if the other end is closed. Never waits.

        Args:
            text: The line, without a newline in it.
            files: Descriptors to pass on; closed here once they are sent, or cannot be.
        """
        self._outgoing.put((f"{text}\n".encode(), tuple(files)))

    def lines(self, alive: Callable[[], bool] = lambda: True) -> Iterator[str]:
        """Give each line until the other process is gone or this end is closed.

        Args:
            alive: Asked twice a second whether the other process lives: a process that was forked
                off it may keep its end open.
        """
        buffer = b""
        while True:
            try:
                data, ancillary, *_ = self._socket.recvmsg(_BYTES, _ROOM_FOR_FILES)
            except BlockingIOError:
                if not alive():
                    return
                continue
            except OSError:  # closed here, or reset by the other end
                return
            self.files += _descriptors(ancillary)
            if not data:
                return
            *whole, buffer = (buffer + data).split(b"\n")
            for line in whole:
                yield line.decode()

    def flush(self, seconds: float) -> None:
        """Wait until what was sent so far is written, or for so many seconds."""
        self._outgoing.put(None)
        with suppress(Empty):
            self._written.get(timeout=seconds)

    def close(self) -> None:
        """Let the other process see the end, also where a forked process has a copy of this."""
        with suppress(OSError):
            self._socket.shutdown(SHUT_RDWR)
        self._socket.close()
        self._outgoing.put((b"", ()))

    def _write(self) -> None:
        while True:
            if (item := self._outgoing.get()) is None:
                self._written.put(None)
                continue
            data, files = item
            if not data:  # closed
                return
            with suppress(OSError):
                self._write_all(data, files)
            for file in files:
                os.close(file)

    def _write_all(self, data: bytes, files: tuple[int, ...]) -> None:
        if files:
            passed = [(SOL_SOCKET, SCM_RIGHTS, array("i", files))]
            data = data[self._socket.sendmsg([data], passed) :]
        self._socket.sendall(data)


def run_in_thread(function: Callable[[], object]) -> None:
    """Call a function in a thread of the interpreter's own, which ends with the process.

    `threading.Thread` may be gevent's, whose threads run only while others wait.
    """
    _original("_thread", "start_new_thread")(function, ())


def watch_process(process: int) -> Callable[[], bool]:
    """Return a function that says whether a process lives; its id may be another's later."""
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):  # gone, or an old kernel
            handle, select = os.pidfd_open(process), _original("select", "select")
            return lambda: not select([handle], [], [], 0)[0]
    return lambda: _exists(process)


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _original(module: str, name: str) -> Any:
    """Return a function of the standard library as it was before gevent replaced it."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey:
        return monkey.get_original(module, name)
    return getattr(importlib.import_module(module), name)


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % _INTEGER])
    for file in found:
        os.set_inheritable(file, False)  # noqa: FBT003 - the function's own signature
    return list(found)

"""The pipe between one program and several: what one prints becomes what the others read.

How it is copied is the caller's: as it is, or with parts left out for some of the readers.
"""

from __future__ import annotations

import fcntl
import threading
from contextlib import suppress
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    from pytest_kindinfra.process.protocol import Copy, Sink

CHUNK = 1 << 20
"""Bytes that are read at a time."""


def widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold as much as is read at a time, where the platform has it so (Linux).

    In its 64 KiB both ends sleep and wake some ten thousand times while 500 MB go through.
    """
    if command := getattr(fcntl, "F_SETPIPE_SZ", None):
        with suppress(OSError):  # a user may have only so many pages in all pipes: pipe(7)
            fcntl.fcntl(pipe, command, CHUNK)


class Outlet:
    """A program's standard input; what is written after the program hung up is dropped.

    Attributes:
        sent: Bytes that were written.
        broken: The program has hung up.
    """

    def __init__(self, stream: IO[bytes], together: Sequence[Outlet]) -> None:
        self._stream = stream
        self._together = together
        self.sent = 0
        self.broken = False

    def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            BrokenPipeError: No program listens any more, so that copying is in vain.
        """
        if self.broken:
            return
        try:
            self._stream.write(data)
            self.sent += len(data)
        except BrokenPipeError:
            self.broken = True
            if all(outlet.broken for outlet in self._together):
                raise

    def close(self) -> None:
        """Let the program see the end of its input."""
        with suppress(BrokenPipeError):
            self._stream.close()


class Pump(threading.Thread):
    """Copies what one program prints to others, and closes all ends.

    Attributes:
        outlets: One for each reader, in order.
        error: Why copying ended before its end, if neither the source nor the readers are at fault.
    """

    def __init__(
        self,
        source: subprocess.Popen[bytes],
        readers: Sequence[subprocess.Popen[bytes]],
        copy: Copy,
    ) -> None:
        super().__init__(name="kindinfra pump", daemon=True)
        self.outlets: list[Outlet] = []
        self.outlets += [Outlet(one.stdin, self.outlets) for one in readers if one.stdin]
        self.error: Exception | None = None
        self._source = source.stdout
        for pipe in (source.stdout, *(one.stdin for one in readers)):
            if pipe:
                widen(pipe)
        self._copy = copy

    def run(self) -> None:
        """Copy to the end; if the copy fails the source is still read, so that it ends well."""
        if self._source is None:
            return
        with self._source, suppress(BrokenPipeError):
            try:
                self._copy(self._source, self.outlets)
            except BrokenPipeError:
                raise
            except Exception as error:  # noqa: BLE001 - for the thread that waits for this one
                self.error = error
            while self._source.read(CHUNK):
                pass
        for outlet in self.outlets:
            outlet.close()


def copy_all(source: IO[bytes], sinks: Sequence[Sink]) -> None:
    """Copy everything to everyone."""
    while chunk := source.read(CHUNK):
        for sink in sinks:
            sink.write(chunk)

"""Copy between programs and files without keeping it in memory, and without secrets."""

from __future__ import annotations

import fcntl
import os
import selectors
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Protocol

from pytest_kindinfra.system.secrets import RedactedStream

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.system.secrets import Redactor


CHUNK = 1 << 20
"""Bytes that are read at a time."""


class Sink(Protocol):
    """Takes bytes."""

    def write(self, data: bytes) -> object:
        """Take all of `data`."""
        ...


class Copy(Protocol):
    """Copies a stream to several; may change it on the way."""

    def __call__(self, source: IO[bytes], sinks: Sequence[Sink]) -> None:
        """Read `source` to its end and write to `sinks`, in their order in `Runner.pipe`."""
        ...


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold as much as is read at a time, where the platform has it so (Linux).

    In its 64 KiB both ends sleep and wake some ten thousand times while 500 MB go through.
    """
    if command := getattr(fcntl, "F_SETPIPE_SZ", None):
        with suppress(OSError):  # a user may have only so many pages in all pipes: pipe(7)
            fcntl.fcntl(pipe, command, CHUNK)


class _Outlet:
    """A program's standard input; what is written after the program hung up is dropped.

    Attributes:
        sent: Bytes that were written.
        broken: The program has hung up.
    """

    def __init__(self, stream: IO[bytes], together: Sequence[_Outlet]) -> None:
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
        self.outlets: list[_Outlet] = []
        self.outlets += [_Outlet(one.stdin, self.outlets) for one in readers if one.stdin]
        self.error: Exception | None = None
        self._source = source.stdout
        for pipe in (source.stdout, *(one.stdin for one in readers)):
            if pipe:
                _widen(pipe)
        self._copy = copy

    def run(self) -> None:
        """Copy to the end; if the copy fails the source is still read, so that it can end."""
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


_PIECE = 1 << 16


_AFTERWARDS = 1 << 20
"""Bytes that are read at most once the child has ended: a pipe holds less."""


_LOOK_EVERY = 0.05


@contextmanager
def written_redacted(file: IO[bytes], redactor: Redactor) -> Iterator[IO[bytes]]:
    """Give what a child may write to; `file` has all of it, redacted, when the block ends.

    A grandchild that outlives the child and goes on writing is not heard: with a pipe of its
    own it would keep us waiting forever.

    Raises:
        OSError: The file could not be written, such as on a full disk.
    """
    reader, writer = os.pipe()
    copy = _Copy(reader, file, RedactedStream(redactor))
    with open(writer, "wb", buffering=0) as sink:  # noqa: PTH123 - no path
        copy.start()
        try:
            yield sink
        finally:
            copy.ended.set()
            sink.close()
            copy.join()
    if copy.error:
        raise copy.error


class _Copy(threading.Thread):
    """Copies until no process writes any more, or until nothing comes after the end.

    Attributes:
        ended: To be set when the child has ended.
        error: Why the file could not be written.
    """

    def __init__(self, reader: int, file: IO[bytes], stream: RedactedStream) -> None:
        super().__init__(name="kindinfra log", daemon=True)
        self.ended = threading.Event()
        self.error: OSError | None = None
        self._reader = reader
        self._file = file
        self._stream = stream

    def run(self) -> None:
        # Closing our end, also after an error, ends a child that would block on a full pipe.
        with open(self._reader, "rb", buffering=0) as source:  # noqa: PTH123 - no path
            try:
                for piece in self._pieces(source):
                    self._file.write(self._stream.feed(piece))
                    self._file.flush()
                self._file.write(self._stream.end())
                self._file.flush()
            except OSError as error:
                self.error = error

    def _pieces(self, source: IO[bytes]) -> Iterator[bytes]:
        left = _AFTERWARDS
        with selectors.DefaultSelector() as selector:
            selector.register(source, selectors.EVENT_READ)
            while left > 0:
                over = self.ended.is_set()
                if selector.select(_LOOK_EVERY):
                    piece = source.read(_PIECE)
                    if not piece:
                        return
                    left -= len(piece) if over else 0
                    yield piece
                elif over:
                    return

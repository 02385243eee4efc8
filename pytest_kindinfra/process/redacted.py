"""A file that a child writes to through us, so that no secret rests in it.

A line comes to the file as soon as its end is there. It must not know what a secret is.
"""

from __future__ import annotations

import os
import selectors
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from pytest_kindinfra.redaction import RedactedStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.redaction import Redactor

_PIECE = 1 << 16
_AFTERWARDS = 1 << 20
"""Bytes that are read at most once the child has ended: a pipe holds less."""
_LOOK_EVERY = 0.05


@contextmanager
def written_redacted(file: IO[bytes], redactor: Redactor) -> Iterator[IO[bytes]]:
    """Give what a child may write to; `file` has all of it, redacted, when the block ends.

    A grandchild that outlives the child and goes on writing is not heard: with a pipe of its
    own it would keep us waiting for ever.

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
    """Copies until nobody writes any more, or until nothing comes after the end.

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

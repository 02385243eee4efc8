"""A terminal that programs are started on, and what its screen shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING, Self

import pyte
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LONGEST = 120.0
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A program on a terminal of its own, from its start to its end.

    Attributes:
        process: The program; the first process of the terminal's session.
        raw: All that was written.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        environment: dict[str, str],
        columns: int = 100,
        lines: int = 30,
    ) -> None:
        self.raw = b""
        self._seen = ""
        self._screen = pyte.HistoryScreen(columns, lines, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, *argv], cwd=folder, env=environment,
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(5)
        os.close(self._master)

    def resize(self, columns: int, lines: int) -> None:
        """Give it another size."""
        with self._lock:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            self._screen.resize(lines, columns)

    def type(self, text: str) -> None:
        """Type on its keyboard; Ctrl-C is the character 3."""
        os.write(self._master, text.encode())

    def shown(self) -> list[str]:
        """Return the lines on the screen, without empty ones at the end."""
        with self._lock:
            lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def text(self) -> list[str]:
        """Return all lines: those that moved off the screen, then those on it."""
        with self._lock:
            above = [
                "".join(row[column].data for column in range(self._screen.columns)).rstrip()
                for row in self._screen.history.top
            ]
        return [*above, *self.shown()]

    def until(self, seen: Callable[[list[str]], object]) -> list[str]:
        """Wait until that is true of the screen, and return its lines."""
        late = time.monotonic() + LONGEST
        while True:
            lines = self.shown()
            if seen(lines):
                return lines
            if self.process.poll() is not None or time.monotonic() > late:
                pytest.fail("it did not come to that:\n" + "\n".join(self.text()))
            time.sleep(0.02)

    def until_shown(self, *texts: str) -> list[str]:
        """Wait until the screen has all of that, and return its lines."""
        return self.until(lambda lines: all(text in "\n".join(lines) for text in texts))

    def finish(self) -> int:
        """Wait for the program's end and return its exit code."""
        try:
            code = self.process.wait(LONGEST)
        except subprocess.TimeoutExpired:
            pytest.fail("the program did not end:\n" + "\n".join(self.text()))
        self._reader.join(5)
        return code

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while data := os.read(self._master, 1 << 16):
                with self._lock:
                    self.raw += data
                    self._stream.feed(data)

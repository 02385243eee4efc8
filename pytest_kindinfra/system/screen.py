"""Lines at the lower end of a terminal, below everything that others write to it.

After the lines are drawn the cursor is where it was, so that they are gone by erasing what is below
it: whatever was written meanwhile past this module, or however the terminal was resized, the text
stands where it would stand without them. No state of the terminal is changed, so none is left.
While Ctrl-Z has the process stopped, or `bg` has it go on behind the shell, there are no lines.

Tests may run in this process, which fork, capture its files, or replace what `threading` has: the
lines go to a descriptor of their own, the lock is the interpreter's, and only this process draws.
"""

from __future__ import annotations

import os
import signal
from _thread import RLock
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_ERASE = "\x1b[J"


_DOWN = "\x1bD"
"""To the next line in the same column; at the lower end of the screen everything moves up."""


_SAVE, _RESTORE = "\x1b7", "\x1b8"


_COLUMNS = 80
"""What is taken for the width of a terminal that does not know its own."""


_LEAST = 6
"""Lines that a terminal must have."""


class Screen:
    """Shows lines below what is written to streams of this process that lead to one terminal.

    Args:
        streams: Standard output first; both are flushed after each write while lines are shown.
        column: Gives the width of the line that is being written, as far as it is known.

    Raises:
        OSError: The first stream is no terminal.
    """

    def __init__(self, streams: Sequence[TextIO], *, column: Callable[[], int] = lambda: 0) -> None:
        os.get_terminal_size(streams[0].fileno())
        streams[0].flush()
        self._file = os.dup(streams[0].fileno())
        self._column = column
        self._lock = RLock()
        self._process = os.getpid()
        self._lines: list[str] = []
        self._drawn = False
        self._hidden = 0
        self._closed = False
        self._streams = [stream for stream in streams if self._intercept(stream)]
        self._had_terminal = self._has_terminal()
        with suppress(ValueError):  # handlers are for the main thread only
            if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL:
                signal.signal(signal.SIGTSTP, self._stop)

    @property
    def size(self) -> tuple[int, int]:
        """Columns of the terminal, and how many lines may be shown: half of it, 0 if it is low."""
        try:
            columns, lines = os.get_terminal_size(self._file)
        except OSError:
            return _COLUMNS, 0
        return columns or _COLUMNS, lines // 2 if lines >= _LEAST else 0

    def show(self, lines: Sequence[str]) -> None:
        """Show these lines in place of the last ones; none is as wide as the terminal."""
        with self._lock:
            if self._closed or not self._is_here():
                return
            self._lines = list(lines)
            self._write(self._erasing() + self._drawing())

    def hide(self) -> None:
        """Show nothing until `unhide`, as while a debugger runs; may be called several times."""
        with self._lock:
            self._hidden += 1
            self._write(self._erasing())

    def unhide(self) -> None:
        """Show lines again, once it was called as often as `hide`."""
        with self._lock:
            self._hidden = max(0, self._hidden - 1)
            self._write(self._drawing())

    def close(self) -> None:
        """Leave the terminal as if there had been no lines; a second call does nothing."""
        with self._lock:
            if self._closed or not self._is_here():
                return
            self._write(self._erasing())
            self._closed = True
            with suppress(ValueError):  # as above
                if signal.getsignal(signal.SIGTSTP) == self._stop:
                    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            for stream in self._streams:
                with suppress(AttributeError):
                    del stream.write  # that of its class is back
            os.close(self._file)

    def _is_here(self) -> bool:
        return os.getpid() == self._process

    def _stop(self, number: int, _frame: object) -> None:
        """Make way for the shell, and stop until `fg` or `bg`; the next `show` draws again."""
        here = self._is_here()
        if here:
            self.hide()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)
        if here:
            with self._lock:  # not `unhide`: what was interrupted may be about to write
                self._hidden -= 1

    def _has_terminal(self) -> bool:
        """Whether this process is one of those that the shell lets use the terminal."""
        try:
            return os.tcgetpgrp(self._file) == os.getpgrp()
        except OSError:  # a terminal of which no shell has control
            return False

    def _intercept(self, stream: TextIO) -> bool:
        """Have the lines make way for what is written to a stream."""
        write = stream.write

        def write_above(text: str) -> int:
            if self._closed or not self._is_here():
                return write(text)
            with self._lock:
                return self._make_way(write, stream, text)

        try:
            stream.write = write_above  # type: ignore[method-assign]
        except AttributeError:  # no stream of Python's own
            return False
        return True

    def _make_way(self, write: Callable[[str], int], stream: Any, text: str) -> int:
        if not self._lines or self._hidden:
            return write(text)
        self._write(self._erasing())
        try:
            return write(text)
        finally:
            with suppress(OSError, ValueError):
                stream.flush()
            self._write(self._drawing())

    def _erasing(self) -> str:
        drawn, self._drawn = self._drawn, False
        return _ERASE if drawn else ""

    def _drawing(self) -> str:
        if not self._lines or self._hidden or self._is_at_edge() or self._is_behind_shell():
            return ""
        self._drawn = True
        count = len(self._lines)
        room = f"{_DOWN * count}\x1b[{count}A"
        lines = "\r\n".join(self._lines)
        return f"{room}{_SAVE}\r\n{lines}{_RESTORE}"

    def _is_behind_shell(self) -> bool:
        """Whether `bg` has let this process go on, so that lines would be in the shell's way."""
        return self._had_terminal and not self._has_terminal()

    def _is_at_edge(self) -> bool:
        """Whether the next character goes to the next line, of which moving about lets go."""
        column = self._column()
        return column > 0 and column % self.size[0] == 0

    def _write(self, text: str) -> None:
        data = text.encode(errors="replace")
        with suppress(OSError):  # the terminal is gone: the next write to it fails
            while data:
                data = data[os.write(self._file, data) :]

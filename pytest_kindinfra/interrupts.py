"""Signals that end a run as Ctrl-C does, and a while in which none may fall.

It knows signals and nothing of what they end.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CAUGHT = (signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, from `catch` to `restore`."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """Take the signals over that have nobody's handler yet.

        Only Python's main thread may do so: after `pytest.main()` in another one, whoever started
        that thread decides what signals do.
        """
        if not _in_main_thread():
            return
        for number in _CAUGHT:
            if signal.getsignal(number) == signal.SIG_DFL:
                self._before[number] = signal.signal(number, _interrupt)

    def restore(self) -> None:
        """Give back what `catch` took."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()


@contextmanager
def held() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait until the end of the block.

    In another thread than the main one this does nothing: signals interrupt only that one.

    For imports: up to Python 3.11 what is raised while a class is being made, in `__set_name__`,
    comes out as a RuntimeError, and the interrupt is lost in it
    (https://github.com/python/cpython/issues/77757).

    Raises:
        KeyboardInterrupt: At the end of the block, if a signal came that raises it.
    """
    if not _in_main_thread():
        yield
        return
    came: list[tuple[int, Any]] = []
    before: dict[int, Any] = {}
    for number in (signal.SIGINT, *_CAUGHT):
        if callable(signal.getsignal(number)):
            before[number] = signal.signal(number, lambda *args: came.append(args))
    try:
        yield
    finally:
        for signal_, handler in before.items():
            signal.signal(signal_, handler)
    if came:
        before[came[0][0]](*came[0])


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)

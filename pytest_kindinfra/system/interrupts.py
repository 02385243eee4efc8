"""Signals that end a run as Ctrl-C does, and blocks that none of them may cut short.

Python raises an interrupt between any two instructions of the main thread. A second one that
follows shortly is raised in the handling of the first: in a `finally`, in the middle of
`queue.get` or `Thread.join` (which then believe what is not so), or in pytest's own end. So only
one is raised at a time, and none while a run ends: it hurries the end instead.

It knows signals and nothing of what they end.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.system.timeline import monotonic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_CAUGHT = (signal.SIGTERM, signal.SIGHUP)


_ALL = (signal.SIGINT, *_CAUGHT)


_APART = 0.5
"""Seconds after a raised interrupt in which a further one is not raised; not long, since the first
may have been lost in code that catches all, and then the next one must count."""


_GIVES_UP = 5
"""Interrupts during the end of a run of which the last is raised, so that it can be left."""


class Interrupts:
    """What SIGINT, SIGTERM and SIGHUP do, from `catch` to `restore`; for the main thread.

    In another thread, where Python allows no handlers, it does nothing.

    Attributes:
        hurried: More than one came, or one came while none is raised.
    """

    def __init__(self) -> None:
        self.hurried = False
        self._before: dict[int, Any] = {}
        self._raises = True
        self._raised: float | None = None
        self._unraised = 0
        self._next = threading.Event()

    def catch(self, *, sigint: bool) -> None:
        """Have SIGTERM and SIGHUP raise KeyboardInterrupt, unless they have somebody's handler.

        Args:
            sigint: Take SIGINT over too. A process that runs tests should not: asyncio and trio
                replace Python's own handler only.
        """
        self._take(number for number in _CAUGHT if signal.getsignal(number) == signal.SIG_DFL)
        if sigint:
            self._take([signal.SIGINT])

    def raised(self) -> None:
        """Say that one was raised and is being handled: `defer` those that come now."""
        self._raised = monotonic()
        self.defer()

    def defer(self) -> None:
        """Raise none from now on, but note that it came."""
        self._take(_ALL)
        self._unraised = 0
        self._raises = False

    def allow(self) -> None:
        """Raise them again."""
        self._raises = True

    @contextmanager
    def deferred(self) -> Iterator[Interrupts]:
        """Raise none in the block.

        Raises:
            KeyboardInterrupt: The fifth of those that came in the block.
        """
        self.defer()
        try:
            yield self
        finally:
            self.allow()

    def next(self) -> threading.Event:
        """Return an event that the next interrupt sets."""
        self._next = threading.Event()
        return self._next

    def restore(self) -> None:
        """Give back what was taken over."""
        while self._before:
            number = next(iter(self._before))
            signal.signal(number, self._before[number])
            del self._before[number]

    def _take(self, numbers: Iterable[int]) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in numbers:
            handler = signal.getsignal(number)
            ignored = handler in {None, signal.SIG_IGN}
            if (
                number in self._before
                or ignored
                or (number == signal.SIGINT and not callable(handler))
            ):
                continue
            self._before[number] = handler  # first: a signal may come as soon as it is replaced
            signal.signal(number, self._come)

    def _come(self, number: int, frame: object) -> None:
        if not self._raises:
            self._hurry()
            self._unraised += 1
            if self._unraised < _GIVES_UP:
                return
        elif self._raised is not None:
            self._hurry()
            if monotonic() - self._raised < _APART:
                return
        self._raised = monotonic()
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        else:
            _interrupt(number, frame)

    def _hurry(self) -> None:
        self.hurried = True
        self._next.set()


@contextmanager
def deferring() -> Iterator[Interrupts]:
    """Raise no signal in the block, and leave the handlers as they were.

    Raises:
        KeyboardInterrupt: The fifth of those that came in the block.
    """
    interrupts = Interrupts()
    try:
        with interrupts.deferred():
            yield interrupts
    finally:
        interrupts.restore()


@contextmanager
def held() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP wait until the end of the block.

    For what must be done wholly or not at all, and for imports: up to Python 3.11 what is raised
    while a class is being made, in `__set_name__`, comes out as a RuntimeError, and the interrupt
    is lost in it (https://github.com/python/cpython/issues/77757). In another thread than the main
    one, where none is raised, it does nothing.

    Raises:
        KeyboardInterrupt: At the end of the block, if a signal came that raises it.
    """
    came: list[tuple[int, object]] = []
    before: dict[int, Any] = {}
    waits = True

    def come(number: int, frame: object) -> None:
        if waits:
            came.append((number, frame))
        else:  # between the end of the block and the handler's return to its place
            before[number](number, frame)

    try:
        for number in _ALL if threading.current_thread() is threading.main_thread() else ():
            if callable(before_it := signal.getsignal(number)):
                before[number] = before_it
                signal.signal(number, come)
        yield
    finally:
        waits = False
        for taken, handler in before.items():
            signal.signal(taken, handler)
        if came:
            before[came[0][0]](*came[0])


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)

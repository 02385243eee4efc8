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
from _queue import SimpleQueue
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.system.channel import run_in_thread
from pytest_kindinfra.system.timeline import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


_CAUGHT = (signal.SIGTERM, signal.SIGHUP)


_ALL = (signal.SIGINT, *_CAUGHT)


_APART = 0.5
"""Seconds after a raised interrupt in which a further one is not raised; not long, since the first
may have been lost in code that catches all, and then the next one must count."""


_GIVES_UP = 5
"""The interrupt that ends a process which must end the run alone."""


class Haste:
    """Whether the end of a run was interrupted.

    Attributes:
        hurried: It was.
    """

    def __init__(self) -> None:
        self.hurried = False
        self._calls: SimpleQueue[bool] = SimpleQueue()

    def next(self) -> threading.Event:
        """Return an event that is set at the next interrupt.

        A thread sets it: an event has a lock, which the main thread may hold when a handler of
        signals comes between two of its instructions.
        """
        self.stop()
        event, calls = threading.Event(), self._calls

        def set_event() -> None:
            if calls.get():
                event.set()

        run_in_thread(set_event)
        return event

    def hurry(self) -> None:
        """Note an interrupt; takes no lock, so that signal handlers may call it."""
        self.hurried = True
        self._calls.put(True)  # noqa: FBT003 - what the thread waits for

    def stop(self) -> None:
        """End the thread behind the last event, which is not set any more."""
        self._calls.put(False)  # noqa: FBT003 - as above
        self._calls = SimpleQueue()


class Interrupts(Haste):
    """What SIGINT, SIGTERM and SIGHUP do, from `catch` to `restore`; for the main thread.

    In another thread, where Python allows no handlers, it does nothing. `hurried` says that more
    than one came, or one came while none is raised.

    Args:
        gives_up: Which interrupt of a run is raised even where none should be, so that its end
            can be left; one within half a second of another is the same.
        hurrying: Called when the end is interrupted, from a handler of signals.
    """

    def __init__(
        self, *, gives_up: int = _GIVES_UP, hurrying: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__()
        self._gives_up = gives_up
        self._hurrying = hurrying
        self._before: dict[int, Any] = {}
        self._raises = True
        self._raised: float | None = None
        self._counted: float | None = None
        self._count = 0

    def catch(self, *, sigint: bool) -> None:
        """Have SIGTERM and SIGHUP raise KeyboardInterrupt, unless they have a handler.

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
        if not self._count:  # by Python's own handler
            self._count, self._counted = 1, self._raised
        self.defer()

    def defer(self) -> None:
        """Raise none from now on, but note that it came."""
        self._take(_ALL)
        self._raises = False

    def allow(self) -> None:
        """Raise them again."""
        self._raises = True

    @contextmanager
    def deferred(self) -> Iterator[Interrupts]:
        """Raise none in the block.

        Raises:
            KeyboardInterrupt: The one that gives up.
        """
        self.defer()
        try:
            yield self
        finally:
            self.allow()

    def restore(self) -> None:
        """Give back the handlers."""
        self.stop()
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
        apart = self._counted is None or monotonic() - self._counted >= _APART
        if apart:
            self._counted = monotonic()
            self._count += 1
        if not self._raises:
            self.hurry()
            if not apart or self._count < self._gives_up:
                return
        elif self._raised is not None:
            self.hurry()
            if monotonic() - self._raised < _APART:
                return
        self._raised = monotonic()
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        else:
            _interrupt(number, frame)

    def hurry(self) -> None:
        """Note an interrupt."""
        super().hurry()
        self._hurrying()


@contextmanager
def deferring() -> Iterator[Interrupts]:
    """Raise no signal in the block, and leave the handlers as they were.

    Raises:
        KeyboardInterrupt: The fifth of those that came in the block, half a second apart.
    """
    interrupts = Interrupts()
    try:
        with interrupts.deferred():
            yield interrupts
    finally:
        interrupts.restore()


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)

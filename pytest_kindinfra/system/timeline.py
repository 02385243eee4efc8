"""The door to time: clocks, deadlines, waiting, and the record of who worked when.

No other module imports `time`. The kinds of phases are `PHASE_KINDS`.
"""

from __future__ import annotations

import inspect
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from pytest_kindinfra.errors import CancelledError, NotReadyError
from pytest_kindinfra.model import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


T = TypeVar("T")
E = TypeVar("E", bound=Exception)


_CALL_LOOK_EVERY = 0.01


class _Clock:
    """The clocks as they were when this module was loaded: tests replace those of `time`.

    Attributes of a class, since freezegun looks for clocks among those of all modules. And
    `clock_gettime`, since time-machine replaces the very functions `time` and `monotonic`, in
    whatever place they are.
    """

    now = staticmethod(time.time)
    monotonic = staticmethod(partial(time.clock_gettime, time.CLOCK_MONOTONIC))
    sleep = staticmethod(time.sleep)


def now() -> float:
    """Seconds since the epoch: for records that other processes read."""
    return _Clock.now()


def monotonic() -> float:
    """Seconds on a clock that never goes back: for durations."""
    return _Clock.monotonic()


def sleep(seconds: float) -> None:
    """Block this thread for `seconds`."""
    _Clock.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time that work must not pass, and the run's wish to end before it.

    Attributes:
        at: The point on the monotonic clock, in seconds.
        cancelled: Set when the run ends; every wait then raises `CancelledError`.
        limit: How long it is and what sets it, for messages: `600 s, --kindinfra-timeout`.
    """

    at: float
    cancelled: threading.Event = field(default_factory=threading.Event)
    limit: str = ""

    @classmethod
    def after(
        cls, seconds: float, cancelled: threading.Event | None = None, *, option: str = ""
    ) -> Deadline:
        """Make the deadline that lies `seconds` ahead; `option` is what sets them."""
        limit = f"{seconds:g} s, {option}" if option else f"{seconds:g} s"
        return cls(monotonic() + seconds, cancelled or threading.Event(), limit)

    def within(self, seconds: float) -> Deadline:
        """Return the nearer of this deadline and one `seconds` ahead, cancelled alike."""
        nearer = Deadline.after(seconds, self.cancelled)
        return nearer if nearer.at < self.at else self

    def exceeded(self) -> str:
        """Return ` within 600 s (--kindinfra-timeout)`, or what is known of it."""
        seconds, _, option = self.limit.partition(", ")
        if not seconds:
            return ""
        return f" within {seconds} ({option})" if option else f" within {seconds}"

    def set_by_option(self) -> str:
        """Return the same if an option or a key set it; nothing for a limit of the code's own."""
        return self.exceeded() if ", " in self.limit else ""

    @property
    def left(self) -> float:
        """Seconds until it passes, never below 0."""
        return max(0.0, self.at - monotonic())

    @property
    def passed(self) -> bool:
        """Whether it lies in the past."""
        return self.left == 0.0

    def check(self) -> None:
        """Raise `CancelledError` if the run is ending."""
        if self.cancelled.is_set():
            msg = "the run is ending"
            raise CancelledError(msg)

    def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, but not past the deadline; end at once when cancelled.

        Raises:
            CancelledError: The run is ending.
        """
        self.cancelled.wait(min(seconds, self.left))
        self.check()


def wait_until(probe: Callable[[], T | None], deadline: Deadline, *, every: float) -> T | None:
    """Call `probe` each `every` seconds until it returns something true.

    Returns:
        What it returned, or None if the deadline passed first; it is called at least once,
        and once more when the deadline has passed.

    Raises:
        CancelledError: The run is ending.
    """
    while True:
        deadline.check()
        last = deadline.passed
        if result := probe():
            return result
        if last:
            return None
        deadline.pause(every)


def retry(
    act: Callable[[], T],
    *,
    tries: int,
    on: type[E],
    between: Callable[[E], object] = lambda _: None,
) -> T:
    """Call `act` until it works, at most `tries` times.

    Args:
        act: Takes nothing.
        tries: How often it is called if it fails each time.
        on: What it raises when it may work the next time.
        between: Called with that error before each further try: it pauses, tidies, or raises the
            error if there is no sense in another try.

    Returns:
        What `act` returned.

    Raises:
        E: The last try failed.
    """
    for _ in range(tries - 1):
        try:
            return act()
        except on as error:
            between(error)
    return act()


def eventually(
    function: Callable[[], T],
    *,
    timeout: float = 30.0,
    every: float = 0.1,
    retry_on: type[Exception] | tuple[type[Exception], ...] = AssertionError,
) -> T:
    """Call a function until it returns, and return what it returned.

    Args:
        function: Takes nothing; a failed `assert` in it means that it is called again.
        timeout: Seconds after which it is called for the last time.
        every: Seconds between two calls.
        retry_on: The exceptions after which it is called again; any other is raised at once.

    Returns:
        What the function returned.

    Raises:
        Exception: The last failure as it was, with a note of how often and how long it was tried.
        TypeError: The function is a coroutine function.
    """
    __tracebackhide__ = True
    if inspect.iscoroutinefunction(function):
        msg = (
            "eventually() calls functions, and this is a coroutine function\n"
            "To fix: pass a plain function, and in an async test call: "
            "await asyncio.to_thread(kindinfra.eventually, function)"
        )
        raise TypeError(msg)
    start, tries, deadline = monotonic(), 0, Deadline.after(timeout)
    while True:
        last = deadline.passed
        tries += 1
        try:
            return function()
        except retry_on as error:
            if last:
                times = "once" if tries == 1 else f"{tries} times"
                error.add_note(
                    f"kindinfra: eventually() called it {times} in {monotonic() - start:.1f} s "
                    f"(timeout={timeout:g})"
                )
                raise
        deadline.pause(every)


def call_within(function: Callable[[], T], deadline: Deadline, *, what: str) -> T:
    """Call a function of a user's, but wait for it no longer than the deadline.

    A function that does not return is left to a daemon thread, since Python cannot end it.

    Args:
        function: Takes nothing.
        deadline: When to stop waiting.
        what: What is called, for the error.

    Raises:
        NotReadyError: It did not return in time.
        CancelledError: The run is ending.
    """
    from concurrent.futures import Future  # this module is loaded by every pytest process

    outcome: Future[T] = Future()

    def call() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=call, name=f"kindinfra {what}", daemon=True).start()
    if not wait_until(outcome.done, deadline, every=_CALL_LOOK_EVERY):
        msg = f"{what} did not return{deadline.exceeded() or ' in time'}"
        raise NotReadyError(msg)
    return outcome.result()


class PhaseKind(NamedTuple):
    """What is known of all phases of one kind.

    Attributes:
        doing: What a progress line says while it lasts.
        done: What a progress line says when it went well.
        ranks: Its seconds are kept for later runs, which use them to order the work on images or
            on services; empty for neither.
        shows_trouble: What it prints last is what keeps a service from being ready.
        first_line: Seconds after which a line says what it printed last.
        next_line: Seconds after which another line says so.
    """

    doing: str
    done: str
    ranks: Literal["", "image", "service"] = ""
    shows_trouble: bool = False
    first_line: float = 30.0
    next_line: float = 30.0


PHASE_KINDS = {
    "build": PhaseKind("building", "built", ranks="image"),
    "pull": PhaseKind("pulling", "pulled"),
    "queue": PhaseKind("waiting for its turn to create the cluster", "may be created"),
    "create": PhaseKind("creating the cluster", "cluster created"),
    "restore": PhaseKind(
        "restoring the cluster from a snapshot", "cluster restored from a snapshot"
    ),
    "snapshot": PhaseKind("copying the cluster for a snapshot", "cluster copied for a snapshot"),
    "enter": PhaseKind("connecting to the cluster", "cluster connected"),
    "push": PhaseKind("pushing", "pushed", ranks="image"),
    "export": PhaseKind("exporting its build cache", "build cache exported"),
    "load": PhaseKind("loading", "loaded"),
    "deploy": PhaseKind(
        "applying", "applied", ranks="service", shows_trouble=True, first_line=5.0
    ),
    "wait": PhaseKind(
        "waiting until ready", "ready", ranks="service", shows_trouble=True, first_line=10.0,
        next_line=10.0,
    ),
    "run": PhaseKind("running its step", "step done", ranks="service"),
    "take": PhaseKind("reusing the cluster", "cluster reused"),
    "delete": PhaseKind("deleting the cluster", "cluster deleted"),
    "clear": PhaseKind("deleting the run's objects", "the run's objects deleted"),
}  # fmt: skip
"""All kinds of phases; enter and clear stand for create and delete where the cluster stays."""


def phase_kind(name: str) -> PhaseKind:
    """Return the kind of that name; one that is not in the table is shown by its name."""
    return PHASE_KINDS.get(name) or PhaseKind(name, name)


class Running(NamedTuple):
    """A phase that has not ended.

    Attributes:
        kind: What is done.
        subject: To what.
        start: Since when, in seconds since the epoch.
        says: Gives the last line that it printed; empty if it prints nothing.
        reached: Gives how far it has come, such as `12/20` or `34 MB`; empty if unknown.
    """

    kind: str
    subject: str
    start: float
    says: Callable[[], str] = lambda: ""
    reached: Callable[[], str] = lambda: ""


class Timeline:
    """Records phases from any thread, and tells subscribers of each start and end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: list[Phase] = []
        self._running: dict[tuple[str, str], Running] = {}
        self._subscribers: list[Callable[[Phase, bool], None]] = []

    def subscribe(self, subscriber: Callable[[Phase, bool], None]) -> None:
        """Have `subscriber(phase, ended)` called at each start and end, in that thread.

        What it raises is dropped.
        """
        self._subscribers.append(subscriber)

    @contextmanager
    def span(
        self,
        kind: str,
        subject: str,
        *,
        says: Callable[[], str] = lambda: "",
        reached: Callable[[], str] = lambda: "",
    ) -> Iterator[Span]:
        """Record the block as a phase; an exception makes it a failed one.

        Args:
            kind: What is done.
            subject: To what.
            says: Gives the last line that was printed, for those who watch.
            reached: Gives how far the block has come, for those who watch.
        """
        span = Span()
        start = now()
        with self._lock:
            self._running[kind, subject] = Running(kind, subject, start, says, reached)
        self._tell(Phase(kind=kind, subject=subject, start=start, end=start), ended=False)
        try:
            yield span
        except CancelledError:
            span.note = "given up"
            self._end(kind, subject, start, span, ok=False)
            raise
        except BaseException:
            self._end(kind, subject, start, span, ok=False)
            raise
        self._end(kind, subject, start, span, ok=True)

    @contextmanager
    def watched(self, works: Iterable[Running]) -> Iterator[None]:
        """List work as running during the block; its phases are timed elsewhere: see `add`."""
        running = {(one.kind, one.subject): one for one in works}
        with self._lock:
            self._running |= running
        try:
            yield
        finally:
            with self._lock:
                for key in running:
                    self._running.pop(key, None)

    def add(self, phase: Phase) -> None:
        """Record a phase that was timed elsewhere."""
        with self._lock:
            self._phases.append(phase)
        self._tell(phase, ended=True)

    def _end(self, kind: str, subject: str, start: float, span: Span, *, ok: bool) -> None:
        phase = Phase(kind=kind, subject=subject, start=start, end=now(), ok=ok, note=span.note)
        with self._lock:
            self._running.pop((kind, subject), None)
            if span.counts:
                self._phases.append(phase)
        if span.counts:
            self._tell(phase, ended=True)

    def _tell(self, phase: Phase, *, ended: bool) -> None:
        for subscriber in self._subscribers:
            # A subscriber must not end the work: its terminal may be gone.
            with suppress(Exception):
                subscriber(phase, ended)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All phases that have ended, by start."""
        with self._lock:
            return tuple(sorted(self._phases, key=lambda phase: phase.start))

    @property
    def running(self) -> tuple[Running, ...]:
        """What goes on now, by start."""
        with self._lock:
            return tuple(sorted(self._running.values(), key=lambda one: one.start))


@dataclass(slots=True)
class Span:
    """What the block inside `Timeline.span` may say of itself.

    Attributes:
        note: A word for the table, such as `cached`.
        counts: False drops the phase, since nothing was done after all.
    """

    note: str = ""
    counts: bool = True

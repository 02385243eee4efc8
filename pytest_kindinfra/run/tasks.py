"""Named pieces of work, each in a thread of its own, which begin when what they need is done.

A task that waits never keeps another from starting. A failure travels along `after`: each task
behind it fails with a `BlockedError` that names the task where the failure began.
"""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from pytest_kindinfra.context import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_MOST_THREADS = 10_000
"""A pool starts a thread only for work that no idle thread takes; this bound is never reached."""


class Task(Generic[T]):
    """A piece of work, or a point within one, and what comes out of it.

    Attributes:
        name: What it makes, for messages: `image "api"`. Several tasks may make the same thing
            step by step; a failure of one of them is the failure of all.
        future: What comes out of it, or its own failure.
    """

    def __init__(self, name: str, future: Future[T] | None = None) -> None:
        self.name = name
        self.future: Future[T] = Future() if future is None else future

    def result(self) -> T:
        """Wait for the task and return what it made.

        Raises:
            BlockedError: It failed; names the task where the failure began.
            CancelledError: The run is ending.
        """
        return needed(self.name, self.future)

    @property
    def error(self) -> BaseException | None:
        """Why it failed, None if it did not; waits for its end."""
        return self.future.exception()

    @property
    def made(self) -> T | None:
        """What it made, None if it failed or has not ended yet."""
        return self.future.result() if self.future.done() and not self.error else None

    def reach(self, value: T) -> None:
        """Mark it as done; a point that was reached before stays as it is."""
        with suppress(InvalidStateError):
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Mark it as failed unless it is done."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


class Tasks:
    """The tasks of one bring-up; as a context manager it ends when all of them have."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="kindinfra")

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until no task runs."""
        self._pool.shutdown()

    def add(
        self,
        name: str,
        function: Callable[[], T],
        *,
        after: Iterable[Task[Any]] = (),
        reaching: Iterable[Task[Any]] = (),
        failed: Callable[[BaseException], object] = lambda _error: None,
    ) -> Task[T]:
        """Return a new task that begins as soon as others are done; see `begin`.

        Args:
            name: What it makes, for messages.
            function: The work; its value is the task's.
            after: What it needs.
            reaching: Points that the function reaches on its way.
            failed: Called with a failure.
        """
        task: Task[T] = Task(name)
        self.begin(task, function, after=after, reaching=reaching, failed=failed)
        return task

    def begin(
        self,
        task: Task[T],
        function: Callable[[], T],
        *,
        after: Iterable[Task[Any]] = (),
        reaching: Iterable[Task[Any]] = (),
        failed: Callable[[BaseException], object] = lambda _error: None,
    ) -> None:
        """Begin a task, which others may wait for already, as soon as what it needs is done.

        Args:
            task: The task.
            function: The work; its value is the task's.
            after: What it needs. If one of these fails, so does the task, without being called.
            reaching: Points that the function reaches on its way; those that it has not reached
                when it fails, fail with it.
            failed: Called with the failure once the tasks behind this one know of it, since what
                it does may take time: writing to a full disk.
        """
        self._pool.submit(_run, task, function, tuple(after), tuple(reaching), failed)


def given(name: str, value: T) -> Task[T]:
    """Return a task that is done already, with its value."""
    task: Task[T] = Task(name)
    task.reach(value)
    return task


def await_all(tasks: Iterable[Task[Any]], *, every: float, heartbeat: Callable[[], object]) -> None:
    """Return when all `tasks` have ended, well or not; call `heartbeat` each `every` seconds."""
    pending: set[Future[Any]] = {task.future for task in tasks}
    while pending:
        pending = wait(pending, timeout=every).not_done
        heartbeat()


def _run(
    task: Task[T],
    function: Callable[[], T],
    after: tuple[Task[Any], ...],
    reaching: tuple[Task[Any], ...],
    failed: Callable[[BaseException], object],
) -> None:
    try:
        for other in after:
            _await(other, task)
        value = function()
    except BaseException as error:  # noqa: BLE001 - a failure is a result
        for point in reaching:
            point.fail(error)
        task.fail(error)
        failed(error)
    else:
        task.reach(value)


def _await(other: Task[Any], task: Task[Any]) -> None:
    """Wait for `other`; its failure is this task's own if both make the same thing."""
    if other.name == task.name:
        other.future.result()
    else:
        other.result()

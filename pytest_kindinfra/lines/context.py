"""What every line of a bring-up knows, and how one waits for another."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindinfra.errors import CancelledError
from pytest_kindinfra.results import BlockedError, failure_record
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    import threading
    from concurrent.futures import Future

    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.model import Plan
    from pytest_kindinfra.request import Hooks, Request, Tools

T = TypeVar("T")


class FirstFailure:
    """What ended the bring-up before its time, and explains whatever was given up for it.

    That is a cluster that was lost, or with `--kindinfra-fail=fast` the first failure.
    """

    def __init__(self, cancelled: threading.Event, *, fast: bool) -> None:
        self._cancelled = cancelled
        self._fast = fast
        self._error: BaseException | None = None

    def note(self, name: str, error: BaseException) -> None:
        """Take a failure; the first one ends the bring-up if it is to be fast.

        Args:
            name: What failed: `image "api"`.
            error: Why.
        """
        if self._fast and not isinstance(error, CancelledError):
            self.end(name, error)

    def end(self, name: str, error: BaseException) -> None:
        """Give everything up, because without this nothing can work; the first cause counts.

        Args:
            name: What was lost.
            error: Why.
        """
        self._error = self._error or blocked(name, error)
        self._cancelled.set()

    def explain(self, error: BaseException) -> BaseException:
        """Return why something was given up, which is the first failure if there was one."""
        return self._error if self._error and isinstance(error, CancelledError) else error


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One bring-up.

    Attributes:
        plan: What to bring up.
        request: How.
        tools: Who does the work.
        run: Gets the results.
        hooks: Called on the way.
        cancelled: Set when the run ends.
        failure: Takes failures.
        watchers: Gets the threads that watch the kind nodes.
        held: Gets what is to be let go of after the run's end.
    """

    plan: Plan
    request: Request
    tools: Tools
    run: RunDirectory
    hooks: Hooks
    cancelled: threading.Event
    failure: FirstFailure
    watchers: list[threading.Thread] = field(default_factory=list)
    held: ExitStack = field(default_factory=ExitStack)

    def failure_record(self, error: BaseException, *, subject: str) -> dict[str, Any]:
        """Return the record that tells of a failure, without secrets: tests and reports show it."""
        record = failure_record(self.failure.explain(error), subject=subject)
        redacted: dict[str, Any] = self.tools.redactor.record(record)
        return redacted

    def deadline(self, seconds: float | None = None, *, key: str = "timeout") -> Deadline:
        """Return the deadline of a piece of work that begins now.

        Args:
            seconds: How long it may take; None means the option's value.
            key: What sets `seconds`, for messages.
        """
        if seconds:
            return Deadline.after(seconds, self.cancelled, option=key)
        option = "--kindinfra-timeout"
        return Deadline.after(self.request.timeout, self.cancelled, option=option)


def needed(name: str, future: Future[T]) -> T:
    """Wait for what another line makes.

    Args:
        name: What it is, for the error: `image "api"`.
        future: Where it comes from.

    Raises:
        BlockedError: It failed; names what began it.
        CancelledError: The run is ending.
    """
    try:
        return future.result()
    except (CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # pytest.fail() in a hook is no Exception
        raise blocked(name, error) from error


def blocked(name: str, error: BaseException) -> BaseException:
    """Return the error for whoever needed `name`; what was blocked itself names its own root."""
    if isinstance(error, CancelledError | BlockedError):
        return error
    return BlockedError(root=name, error=error)

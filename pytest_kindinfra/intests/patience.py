"""Call a function until it does not fail any more, and show its last failure if it always does."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeVar

from pytest_kindinfra.system.timeline import Deadline, monotonic

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")


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

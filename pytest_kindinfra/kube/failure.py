"""The error that a wait for readiness ends with, in a short and a full form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.errors import NotReadyError, indent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.workloads import Cause

SHORT_LINES = 6


class ServiceFailedError(NotReadyError):
    """Objects did not become ready; the text is the full form.

    Attributes:
        short: The same in at most six lines.
        cause: What was found; None if the time was up without one.
    """

    def __init__(self, full: str, *, short: str, cause: Cause | None = None) -> None:
        self.short = short
        self.cause = cause
        super().__init__(full)


def failed(cause: Cause) -> ServiceFailedError:
    """Make the error of a cause that was found."""
    return ServiceFailedError(cause.full(), short=cause.short(), cause=cause)


def too_late(
    states: Sequence[tuple[list[str], list[str]]], *, limit: str = ""
) -> ServiceFailedError:
    """Make the error of a deadline that passed.

    Args:
        states: For each object that is not ready: lines in brief, and further lines.
        limit: The time and what set it, as `Deadline.set_by_option` says it.
    """
    head = f"not ready{limit or ' when the time was up'}:"
    brief = [line for lines, _ in states for line in lines]
    full = [line for lines, more in states for line in (*lines, *more)]
    return ServiceFailedError(
        "\n".join([head, indent("\n".join(full))]),
        short="\n".join([head, *(f"    {line}" for line in brief)][:SHORT_LINES]),
    )

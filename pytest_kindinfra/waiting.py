"""A test's wait for its services: until all are there, or one has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.results import LOST
from pytest_kindinfra.selection import needs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pytest_kindinfra.coordination import RunDirectory


class Refusal(NamedTuple):
    """Why a test cannot run.

    Attributes:
        text: At most six lines, and where everything is kept.
        missing: What is not here, engine or kind, if that is the reason; one line.
    """

    text: str
    missing: str = ""


def await_services(
    item: pytest.Item, run: RunDirectory, *, meanwhile: Callable[[], object]
) -> Refusal | None:
    """Wait until all that a test needs is ready.

    Args:
        item: The test.
        run: Where results appear.
        meanwhile: Called again and again while waiting.

    Returns:
        None, or why the test cannot run.
    """
    if (needs := needs_of(item)) is None or item.config.option.setupplan:
        return None
    for name in ("cluster", *(f"service-{service}" for service in sorted(needs))):
        try:
            result = run.wait_for(name, meanwhile=meanwhile)
        except KindInfraError as error:
            return Refusal(str(error))
        if result["state"] == "failed":
            return _told(result, run)
    # Asked last: what was there before the cluster was lost does not help any more.
    lost = run.settled(LOST)
    return _told(lost, run) if lost else None


def _told(failure: dict[str, Any], run: RunDirectory) -> Refusal:
    missing = failure["full"].splitlines()[0] if failure["missing"] else ""
    return Refusal(f"{failure['short']}\nall of it: {run.path}", missing)

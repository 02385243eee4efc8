"""What tests change of the stack: undone when they end, or by whoever finds it left behind."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.session.stash import RUN, outline
from pytest_kindinfra.state.records import Change

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from pytest_kindinfra.intests.changes import CurrentTest
    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.state.directory import RunDirectory


def stack_of(
    run: RunDirectory,
    settings: Settings,
    *,
    folder: Path,
    current: Callable[[], CurrentTest | None],
    worker: str,
) -> Stack:
    """Return the stack for the tests of this process.

    Args:
        run: The run directory.
        settings: The options.
        folder: Where relative paths of manifests start.
        current: Gives the test that runs.
        worker: Whose copies of services per worker it has; empty without xdist.
    """
    shared = settings.kubeconfig is not None
    return Stack(run, shared=shared, folder=folder, current=current, worker=worker)


def lack_of(run: RunDirectory, settings: Settings, needs: frozenset[str], worker: str) -> str:
    """Undo what killed workers have left, and return why a service is not whole.

    Args:
        run: The run directory.
        settings: The options.
        needs: The services that the next test needs.
        worker: As in `stack_of`.

    Returns:
        A text for that test, empty if its services are whole as far as is known.
    """
    with closing(_own_stack(run, settings, worker)) as stack:
        try:
            return stack.lack_of(needs)
        except KindInfraError as error:
            return f"what a killed worker had changed could not be undone: {error}"


def undo_left(config: pytest.Config) -> None:
    """Undo what killed workers have left in a cluster that stays, or say what cannot be undone."""
    from pytest_kindinfra.session.output import write_line

    for problem in _problems_left(config.stash[RUN], outline(config).settings):
        write_line(config, f"kindinfra: {problem}")


def _problems_left(run: RunDirectory, settings: Settings) -> list[str]:
    stays = settings.reuse or settings.keep != "never" or settings.kubeconfig is not None
    if not stays or not has_changes(run):
        return []
    with closing(_own_stack(run, settings)) as stack:
        try:
            return stack.undo_of_dead()
        except KindInfraError as error:
            return [str(error)]


def has_changes(run: RunDirectory) -> bool:
    """Whether a test of the run has changed something that is not undone yet."""
    return bool(run.names(Change))


def _own_stack(run: RunDirectory, settings: Settings, worker: str = "") -> Stack:
    return Stack(run, waits=False, shared=settings.kubeconfig is not None, worker=worker)

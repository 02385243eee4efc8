"""What tests change of the stack: undone when they end, or by the process that finds it later."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube.client import AWAY
from pytest_kindinfra.session.stash import outline, run_of
from pytest_kindinfra.state.records import Change
from pytest_kindinfra.system.timeline import Deadline

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
    return Stack(run, shared=shared, folder=folder, current=current, worker=worker, patience=AWAY)


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
    with closing(_own_stack(run, settings, worker, patience=AWAY)) as stack:
        try:
            return stack.lack_of(needs)
        except KindInfraError as error:
            return f"what a killed worker had changed could not be undone: {error}"


_AT_THE_END = 30.0
"""Seconds for all that is left: the tests are over, and the user waits for pytest's end."""


_AFTER_AN_INTERRUPT = 5.0


def undo_left(config: pytest.Config, *, failed: bool, interrupted: bool) -> None:
    """Undo what killed workers, or a test that was cut short, have left in a cluster that stays.

    What cannot be undone is said.

    Args:
        config: pytest's.
        failed: A test failed.
        interrupted: The user ended the run. Then a cluster that is merely kept is left as it is,
            to be looked at.
    """
    from pytest_kindinfra.session.output import write_line

    run, settings = run_of(config), outline(config).settings
    if not _is_tidied(settings, failed=failed, interrupted=interrupted) or not has_changes(run):
        return
    seconds = _AFTER_AN_INTERRUPT if interrupted else _AT_THE_END

    def tell(change: Change) -> None:
        where = f' in service "{change.service}"' if change.service else ""
        what = f"undoing what the test {change.test} changed{where} ({change.kind})"
        write_line(config, f"kindinfra: {what}, {seconds:g} s at most")

    with closing(_own_stack(run, settings)) as stack:
        try:
            problems = stack.undo_of_dead(Deadline.after(seconds), tell=tell)
        except (KindInfraError, OSError) as error:
            problems = [str(error)]
    for problem in problems:
        write_line(config, f"kindinfra: {problem}")


def _is_tidied(settings: Settings, *, failed: bool, interrupted: bool) -> bool:
    """Whether the cluster stays, and not only to be looked at."""
    if settings.reuse or settings.kubeconfig is not None:
        return True
    kept = settings.keep == "always" or (settings.keep == "on-failure" and failed)
    return kept and not interrupted


def has_changes(run: RunDirectory) -> bool:
    """Whether a test of the run has changed something that is not undone yet."""
    return bool(run.names(Change))


def _own_stack(
    run: RunDirectory, settings: Settings, worker: str = "", *, patience: float = 0.0
) -> Stack:
    shared = settings.kubeconfig is not None
    return Stack(run, waits=False, shared=shared, worker=worker, patience=patience)

"""What the plugin remembers of a session, and what its hooks and its fixtures share.

Part of what every pytest process loads: nothing heavy is imported here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_kindinfra.errors import DeclarationError, KindInfraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.intests.changes import CurrentTest
    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.session.controller import Controller
    from pytest_kindinfra.session.fixtures import Exports
    from pytest_kindinfra.session.options import Outline
    from pytest_kindinfra.session.waiting import Refusal
    from pytest_kindinfra.state.directory import RunDirectory

CONTROLLER: pytest.StashKey[Controller] = pytest.StashKey()


RUN: pytest.StashKey[Callable[[], RunDirectory]] = pytest.StashKey()
"""Gives the run directory, which a process that needs nothing does not load: see `run_of`."""


ASKED: pytest.StashKey[bool] = pytest.StashKey()
"""Whether a test needs the cluster that this process collected, or a worker of it."""


FAILED: pytest.StashKey[bool] = pytest.StashKey()


WORKER: pytest.StashKey[str] = pytest.StashKey()
"""Whose copies of services per worker this process has; not there without xdist. A worker that
replaces one that was killed has that one's."""


CURRENT: pytest.StashKey[CurrentTest] = pytest.StashKey()
"""The test that runs, once its services were there."""


STACK: pytest.StashKey[tuple[Stack, int]] = pytest.StashKey()
"""The stack of this process's tests, and the id of the process that made it."""


AWAITED: pytest.StashKey[frozenset[str]] = pytest.StashKey()
"""The services that are ready for a test."""


SINCE: pytest.StashKey[float] = pytest.StashKey()
"""When a test's services were there, in seconds since the epoch."""


EXPORTS: pytest.StashKey[Exports] = pytest.StashKey()
"""The variables of the environment that were set for tests."""


def run_of(config: pytest.Config) -> RunDirectory:
    """Return the run directory, which exists once something is brought up."""
    return config.stash[RUN]()


def undo(config: pytest.Config) -> None:
    """Undo what the test has changed; in the process that changed it."""
    __tracebackhide__ = True
    stack, process = config.stash.get(STACK, (None, 0))
    if stack is not None and os.getpid() == process:
        try:
            stack.undo_own()
        except KindInfraError as error:
            pytest.fail(str(error), pytrace=False)


def meanwhile(config: pytest.Config) -> Callable[[], object]:
    """Return what is to be called again and again while a test waits."""
    controller = config.stash.get(CONTROLLER, None)
    return controller.meanwhile if controller else lambda: None


def refuse(config: pytest.Config, refusal: Refusal) -> NoReturn:
    """Fail the test that is being set up, or skip it for what is missing if that is wanted."""
    __tracebackhide__ = True
    if refusal.missing and outline(config).settings.missing == "skip":
        pytest.skip(f"kindinfra: {refusal.missing}")
    pytest.fail(refusal.text, pytrace=False)


def outline(config: pytest.Config) -> Outline:
    """Return the options, and what the declaration says in short.

    Raises:
        pytest.UsageError: The declaration's file or an option cannot be read.
    """
    from pytest_kindinfra.session.options import look

    try:
        return look(config)
    except DeclarationError as error:
        raise pytest.UsageError(str(error)) from None

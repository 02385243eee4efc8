"""What happens to a test that needs the cluster before it runs: it waits, or is refused.

A test waits for its services and its turn: before its setup if pytest-timeout watches it or it
must not run in parallel to others, else in its setup, and once more for marks of its fixtures.
Loaded with the first test that needs something.
"""

from __future__ import annotations

import pytest

from pytest_kindinfra.intests.changes import CurrentTest
from pytest_kindinfra.session.fixtures import Exports
from pytest_kindinfra.session.heavy import get_ready, get_ready_again, is_heavy, turn_context
from pytest_kindinfra.session.neighbours import forbid_reruns, has_timeout
from pytest_kindinfra.session.reports import note_properties
from pytest_kindinfra.session.stash import (
    ASKED,
    AWAITED,
    CURRENT,
    EXPORTS,
    SINCE,
    WORKER,
    meanwhile,
    outline,
    refuse,
    run_of,
)
from pytest_kindinfra.session.undoing import has_changes, lack_of
from pytest_kindinfra.session.waiting import Refusal, await_services
from pytest_kindinfra.system.timeline import monotonic, now

_WAITED: pytest.StashKey[float] = pytest.StashKey()
"""Seconds for which a test waited for its services."""


_REFUSED: pytest.StashKey[Refusal] = pytest.StashKey()
"""Why a test cannot run, found out before its setup."""


def wait_early(item: pytest.Item, needs: frozenset[str]) -> None:
    """Wait for a test's services and turn before its setup, if they are not its setup's time.

    Why it cannot run is noted, and said in its setup.
    """
    heavy = is_heavy(item)
    if heavy or has_timeout(item):
        refusal = _await_services(item, needs)
        if heavy and refusal is None:
            refusal = get_ready(item, turn_context(item.config))
        if refusal is not None:
            item.stash[_REFUSED] = refusal


def prepare(item: pytest.Item, needs: frozenset[str]) -> None:
    """Wait for what a test needs, then export the variables; else fail or skip the test."""
    __tracebackhide__ = True
    if AWAITED in item.stash:  # of an earlier attempt
        del item.stash[AWAITED]
        if refusal := get_ready_again(item, turn_context(item.config)):
            item.stash[_REFUSED] = refusal
    prepare_further(item, needs)


def prepare_further(item: pytest.Item, needs: frozenset[str]) -> None:
    """Do as `prepare` does, for what the fixtures of the same attempt have added."""
    __tracebackhide__ = True
    config = item.config
    refusal = item.stash.get(_REFUSED, None) or _await_services(item, needs)
    note_properties(item, run_of(config), needs, item.stash.get(_WAITED, 0.0))
    if refusal:
        forbid_reruns(item)  # what failed in a run is not tried again in it
        refuse(config, refusal)
    _export(config)
    item.stash[AWAITED], item.stash[SINCE] = needs, now()
    since = item.stash[SINCE]
    config.stash[CURRENT] = CurrentTest(name=item.nodeid, since=since, services=needs)


def _await_services(item: pytest.Item, needs: frozenset[str]) -> Refusal | None:
    if item.config.option.setupplan:
        return None
    config, began = item.config, monotonic()
    run, asked = run_of(config), config.stash.get(ASKED, False)
    try:
        worker = config.stash.get(WORKER, "")
        look = meanwhile(config)
        refusal = await_services(needs, run, asked=asked, meanwhile=look, worker=worker)
        return refusal or _lack(config, needs)
    except OSError as error:  # before a test's setup it would end the session
        return Refusal(f"the run directory {run.path} cannot be used: {error}")
    finally:
        item.stash[_WAITED] = item.stash.get(_WAITED, 0.0) + monotonic() - began


def _lack(config: pytest.Config, needs: frozenset[str]) -> Refusal | None:
    """Undo what killed workers have left; return why a service is not whole any more."""
    run = run_of(config)
    if not has_changes(run):
        return None
    text = lack_of(run, outline(config).settings, needs, config.stash.get(WORKER, ""))
    return Refusal(text) if text else None


def _export(config: pytest.Config) -> None:
    """Set the declared variables that are known by now."""
    exports = config.stash.get(EXPORTS, None)
    if exports is None:
        exports = config.stash[EXPORTS] = Exports(run_of(config), config.stash.get(WORKER, ""))
    exports.set_those_that_are_ready()

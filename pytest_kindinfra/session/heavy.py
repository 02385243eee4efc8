"""Tests that cannot run in parallel to others, and those that want their services fresh."""

from __future__ import annotations

import os
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import CancelledError, KindInfraError
from pytest_kindinfra.session.selection import heavy_of, needs_of
from pytest_kindinfra.session.stash import WORKER, meanwhile, outline, run_of
from pytest_kindinfra.session.waiting import Refusal
from pytest_kindinfra.state.turns import Turns
from pytest_kindinfra.system.timeline import monotonic, now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.records import Ticket, Turn


WAITED = "kindinfra_turn_s"
"""The user property of a report: seconds for which the test waited for its turn."""


_WORTH_SAYING = 0.1


_LOOK_EVERY = 1.0


_SAID_AFTER = 10.0
"""Seconds of waiting after which a line says who waits for whom."""


_SAID_EVERY = 30.0


@dataclass(slots=True)
class _TakenTurns:
    """The turn of the test that runs in this process.

    Attributes:
        turns: The queue.
        ticket: The test's place in it; None while it has none.
        waited: Seconds that it waited.
    """

    turns: Turns
    ticket: Ticket | None = None
    waited: float = 0.0

    def take(self, turn: Turn, test: str, *, meanwhile: Callable[[], object]) -> None:
        """Wait for a turn, after giving back the one that the test has.

        Raises:
            CancelledError: The run is ending.
        """
        self.give_back()
        start = monotonic()

        def look() -> None:
            meanwhile()
            if self.turns.run.is_closed:
                msg = "the run is ending"
                raise CancelledError(msg)

        try:
            self.ticket = self.turns.take(turn, test, meanwhile=look)
        finally:
            self.waited += monotonic() - start

    def give_back(self) -> None:
        """Let the next test go."""
        if self.ticket is not None:
            ticket, self.ticket = self.ticket, None
            self.turns.give_back(ticket)


_TURNS: pytest.StashKey[bool] = pytest.StashKey()
"""Whether some selected test may not run in parallel to others."""


_TAKEN: pytest.StashKey[_TakenTurns] = pytest.StashKey()
"""The turn of the test that runs in this process."""


_LINES: pytest.StashKey[TurnLines] = pytest.StashKey()


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnContext:
    """What a test of this process is in.

    Attributes:
        config: pytest's.
        run: The run directory.
        settings: The options.
        meanwhile: Called again and again while a test waits.
    """

    config: pytest.Config
    run: RunDirectory
    settings: Settings
    meanwhile: Callable[[], object]


def turn_context(config: pytest.Config) -> TurnContext:
    """Return what tests of this process are in."""
    return TurnContext(
        config=config,
        run=run_of(config),
        settings=outline(config).settings,
        meanwhile=meanwhile(config),
    )


def begin(around: TurnContext, *, turns: bool) -> None:
    """Note whether tests of this process must look whether others run; one alone never has to.

    Args:
        around: Where it is.
        turns: Whether a mark of a selected test asks for it.
    """
    wanted = turns or around.settings.capacity is not None
    around.config.stash[_TURNS] = wanted and hasattr(around.config, "workerinput")


def say_who_waits(around: TurnContext, *, turns: bool) -> None:
    """Have the controller of xdist's workers say now and then which tests wait for their turns."""
    stash, capacity = around.config.stash, around.settings.capacity
    if _LINES not in stash and (turns or capacity is not None):
        from pytest_kindinfra.session.output import write_line

        say = partial(write_line, around.config)
        stash[_LINES] = TurnLines(around.run, capacity, lambda line: say(f"kindinfra: {line}"))


def end(config: pytest.Config) -> None:
    """End what `begin` and `say_who_waits` began."""
    if taken := config.stash.get(_TAKEN, None):
        taken.turns.close()
    if lines := config.stash.get(_LINES, None):
        lines.close()


def show_waits(reporter: pytest.TerminalReporter) -> None:
    """Write a line about how long tests waited for their turns, if some did."""
    if _LINES in reporter.config.stash:
        reports = [one for found in reporter.stats.values() for one in found]
        if line := waits_line(reports):
            reporter.write_line(line)


def is_heavy(item: pytest.Item) -> bool:
    """Whether a test must wait for its turn, or wants its services fresh."""
    if needs_of(item) is None or item.get_closest_marker("skip") is not None:
        return False
    return item.config.stash.get(_TURNS, False) or _wants_fresh(item)


def get_ready(item: pytest.Item, around: TurnContext) -> Refusal | None:
    """Wait for a test's turn, and restart its services if it wants them fresh.

    Returns:
        Why the test cannot run; None if it can.
    """
    turn = heavy_of(item).turn
    refusal = _take_turn(item, around, turn) if item.config.stash.get(_TURNS, False) else None
    return refusal or _freshen(item, around)


def get_ready_again(item: pytest.Item, around: TurnContext) -> Refusal | None:
    """Restart the services for a repeated attempt, while no other marked test runs.

    Returns:
        Why the test cannot run; None if it can.
    """
    if needs_of(item) is None or not _wants_fresh(item):
        return None
    turn = replace(heavy_of(item).turn, exclusive=True)
    refusal = _take_turn(item, around, turn) if item.config.stash.get(_TURNS, False) else None
    return refusal or _freshen(item, around)


def give_back(item: pytest.Item) -> None:
    """Let the next test go."""
    if taken := item.config.stash.get(_TAKEN, None):
        taken.give_back()


def _take_turn(item: pytest.Item, around: TurnContext, turn: Turn) -> Refusal | None:
    if (taken := item.config.stash.get(_TAKEN, None)) is None:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        turns = Turns(run=around.run, worker=worker, capacity=around.settings.capacity)
        taken = item.config.stash[_TAKEN] = _TakenTurns(turns)
    taken.waited = 0.0
    try:
        taken.take(turn, item.nodeid, meanwhile=around.meanwhile)
    except KindInfraError as error:
        return Refusal(str(error))
    except OSError as error:
        return Refusal(f"the test cannot wait for its turn: {error}")
    if taken.waited >= _WORTH_SAYING:
        item.user_properties.append((WAITED, round(taken.waited, 3)))
    return None


def _wants_fresh(item: pytest.Item) -> bool:
    """Whether the services of this attempt of a test are to be restarted before it."""
    fresh, repeated = heavy_of(item).fresh, getattr(item, "execution_count", 1) > 1
    return fresh == "always" or (fresh == "on-rerun" and repeated)


def _freshen(item: pytest.Item, around: TurnContext) -> Refusal | None:
    if not _wants_fresh(item):
        return None
    from pytest_kindinfra.session.freshness import Freshness
    from pytest_kindinfra.state.results import text_of

    shared, folder = around.settings.kubeconfig is not None, item.config.rootpath
    worker = item.config.stash.get(WORKER, "")
    try:
        with closing(
            Freshness(around.run, shared=shared, folder=folder, test=item.nodeid, worker=worker)
        ) as freshness:
            freshness.renew(heavy_of(item).services)
    except Exception as error:  # noqa: BLE001 - a `run` step may raise anything
        return Refusal(f"the services could not be made fresh: {text_of(error)}")
    return None


def waits_line(reports: Iterable[Any]) -> str:
    """Return how long tests waited for their turns; empty if none did.

    Args:
        reports: The tests' reports, of whatever phase.
    """
    waits: dict[str, float] = {}
    for report in reports:
        if getattr(report, "when", "") == "call":
            found = [value for name, value in report.user_properties if name == WAITED]
            waits |= {report.nodeid: sum(found)} if found else {}
    if not waits:
        return ""
    longest = max(waits, key=lambda test: waits[test])
    count = f"{len(waits)} tests" if len(waits) > 1 else "1 test"
    total = sum(waits.values())
    return (
        f"{count} waited {total:.1f} s for their turns, {longest} longest: {waits[longest]:.1f} s"
    )


class TurnLines:
    """Says now and then which tests wait for their turn, and for whom; in the main process.

    Args:
        run: Where the queue is.
        capacity: How much weight may run at a time.
        say: Called with each line.
    """

    def __init__(
        self, run: RunDirectory, capacity: int | None, say: Callable[[str], object]
    ) -> None:
        self._turns = Turns(run=run, worker="controller", capacity=capacity)
        self._say = say
        self._over = threading.Event()
        self._said: dict[tuple[int, float], float] = {}
        self._thread = threading.Thread(target=self._watch, name="kindinfra-turns", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; no thread is left."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            with suppress(KindInfraError, OSError):  # the folder may be gone at the end
                for line in self.due(at=now()):
                    self._say(line)

    def due(self, *, at: float) -> list[str]:
        """Return a line for each test that has waited long enough, or long since the last line."""
        lines = []
        for ticket, others in self._turns.waiting():
            which = (ticket.number, ticket.since)  # numbers start again once the queue is empty
            last = self._said.get(which)
            since = at - ticket.since
            if since >= _SAID_AFTER and (last is None or at - last >= _SAID_EVERY):
                self._said[which] = at
                lines.append(_line(ticket, others, since))
        return lines


def _line(ticket: Ticket, others: list[Ticket], since: float) -> str:
    wants = ticket.turn.text()
    what = f"{ticket.test} ({wants})" if wants else ticket.test
    whom = ", ".join(f"{one.test} in {_worker(one)}" for one in others[:3])
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""  # noqa: PLR2004 - as above
    return (
        f"{_worker(ticket)} has waited {since:.0f} s for its turn: {what}; before it: {whom}{more}"
    )


def _worker(ticket: Ticket) -> str:
    return ticket.holder.partition(".")[0]

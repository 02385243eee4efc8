"""Which tests may run in parallel: a queue that all processes of a run share.

A test asks for all that it needs at once and gets it at once, so tests cannot wait for each other
in a circle. None overtakes an earlier test that it would have to wait for, so none waits forever.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from pytest_kindinfra.errors import StateError
from pytest_kindinfra.state.locks import hold, is_locked, locked
from pytest_kindinfra.state.records import Ticket, Turn, TurnQueue
from pytest_kindinfra.system.timeline import Deadline, now, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.locks import Lock


_EVERY = 0.05


_LONGEST = 7 * 24 * 3600.0
"""Seconds. The run's end, and not a deadline, ends a wait."""


def obstacles(mine: Ticket, queue: Iterable[Ticket], *, capacity: int | None) -> list[Ticket]:
    """Return the tickets that a ticket has to wait for; none if it may go.

    Args:
        mine: The ticket.
        queue: All tickets.
        capacity: How much weight may run at a time; None means any. A heavier test counts as all.
    """
    before = [
        one
        for one in queue
        if one.number != mine.number and (one.granted or one.number < mine.number)
    ]
    blocking = [one for one in before if _exclude(one.turn, mine.turn)]
    if blocking or capacity is None:
        return blocking
    weights = [min(one.turn.weight, capacity) for one in (*before, mine)]
    return before if sum(weights) > capacity else []


def _exclude(one: Turn, other: Turn) -> bool:
    return one.exclusive or other.exclusive or not set(one.locks).isdisjoint(other.locks)


@dataclass(slots=True)
class Turns:
    """The queue of a run as one of its processes sees it.

    Attributes:
        run: Where the queue is.
        worker: The process's name for people.
        capacity: How much weight may run at a time; None means any.
    """

    run: RunDirectory
    worker: str
    capacity: int | None = None
    _alive: Lock | None = field(default=None, repr=False)

    def take(self, turn: Turn, test: str, *, meanwhile: Callable[[], object]) -> Ticket:
        """Wait until a test may run, and return its ticket, to be given back after it.

        Args:
            turn: What it needs.
            test: Its node id.
            meanwhile: Called again and again while waiting; may raise to end it.

        Raises:
            StateError: The queue was removed or cannot be read.
            OSError: It cannot be written.
        """
        ticket = self._join(turn, test)
        try:
            wait_until(lambda: self._try(ticket, meanwhile), Deadline.after(_LONGEST), every=_EVERY)
        except BaseException:
            self.give_back(ticket)
            raise
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """Let the next one go."""
        try:
            with self._queue() as queue:
                queue.tickets = [one for one in queue.tickets if one.number != ticket.number]
        except (StateError, OSError):  # such as on a full disk
            self.close()  # to the others the ticket is now one of a process that has ended

    def waiting(self) -> list[tuple[Ticket, list[Ticket]]]:
        """Return the tickets that wait, each with those that it waits for.

        One that is about to go waits for none and is left out, as are those of killed processes.
        """
        tickets = _living(self.run, _read(self.run))
        found = [(one, obstacles(one, tickets, capacity=self.capacity)) for one in tickets]
        return [(one, others) for one, others in found if others and not one.granted]

    def close(self) -> None:
        """Let the others know that this process is over."""
        if self._alive is not None:
            self._alive.release()
            self._alive = None

    @property
    def _holder(self) -> str:
        return f"{self.worker}.{os.getpid()}"

    def _join(self, turn: Turn, test: str) -> Ticket:
        if self._alive is None:
            self._alive = hold(_alive_file(self.run, self._holder))
        with self._queue() as queue:
            # One of this process is of a test that is over, and could not be given back.
            queue.tickets = [one for one in queue.tickets if one.holder != self._holder]
            number = max((one.number for one in queue.tickets), default=0) + 1
            ticket = Ticket(number=number, turn=turn, test=test, holder=self._holder, since=now())
            queue.tickets.append(ticket)
        return ticket

    def _try(self, ticket: Ticket, meanwhile: Callable[[], object]) -> bool:
        meanwhile()
        with self._queue() as queue:
            if ticket not in queue.tickets:
                msg = (
                    f"{ticket.test} has lost its place in the queue of tests: another process "
                    f"removed files of {self.run.path}\n"
                    "To fix: run again, and leave the artifacts folder alone while tests run"
                )
                raise StateError(msg)
            if obstacles(ticket, queue.tickets, capacity=self.capacity):
                return False
            granted = replace(ticket, granted=True)
            queue.tickets = [granted if one == ticket else one for one in queue.tickets]
        return True

    def _queue(self) -> _Queue:
        return _Queue(self.run, self._holder)


class _Queue:
    """The tickets, read and written while no other process does so.

    Those of processes that were killed are left out.
    """

    def __init__(self, run: RunDirectory, holder: str) -> None:
        self._run = run
        self._holder = holder
        self._lock = locked(run.lock_of(TurnQueue))
        self.tickets: list[Ticket] = []

    def __enter__(self) -> Self:
        """Read the tickets."""
        self._lock.__enter__()
        try:
            self._before = _read(self._run)
            self.tickets = _living(self._run, self._before, self._holder)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Write them if they changed."""
        try:
            if self.tickets != self._before:
                self._run.write(TurnQueue(tickets=tuple(self.tickets)))
        finally:
            self._lock.__exit__(None, None, None)


def _read(run: RunDirectory) -> list[Ticket]:
    return list((run.read(TurnQueue) or TurnQueue()).tickets)


def _living(run: RunDirectory, tickets: Iterable[Ticket], own: str = "") -> list[Ticket]:
    """Return the tickets whose processes live; the caller itself does."""
    found = list(tickets)
    dead = {
        holder
        for holder in {one.holder for one in found} - {own}
        if not is_locked(_alive_file(run, holder))
    }
    return [one for one in found if one.holder not in dead]


def _alive_file(run: RunDirectory, holder: str) -> Path:
    return run.lock_of(TurnQueue, f"-{holder}")

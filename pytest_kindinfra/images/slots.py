"""How many builds run at a time, over all of a run, and which goes first."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator


_LOOK_EVERY = 0.1


_HOLD = 2.0
"""Seconds for which a slot is kept for a build that goes first, but may prove to be needless."""


@dataclass(slots=True, eq=False)
class QueueEntry:
    """An entry of the queue: a build that may come, then one that waits, then none.

    Attributes:
        rank: Who has more goes first; those that have the same go as they came.
        count: The slots that it takes.
        waits: It is known to build.
    """

    rank: float
    count: int
    number: int
    hold: Deadline = field(default_factory=lambda: Deadline.after(_HOLD))
    waits: bool = False

    def goes_before(self, other: QueueEntry) -> bool:
        """Whether a slot is kept for this one before the other gets one."""
        first = (-self.rank, self.number) < (-other.rank, other.number)
        return first and (self.waits or not self.hold.passed)


class BuildSlots:
    """At most `jobs` builds at a time, or what they weigh; safe from several threads."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._free = jobs
        self._line: list[QueueEntry] = []
        self._came = 0
        self._changed = threading.Condition()

    @contextmanager
    def place(self, *, rank: float = 0.0, weight: int | None = 1) -> Iterator[QueueEntry]:
        """Stand in line in the block: to find out whether to build, then for a `turn`.

        Args:
            rank: Who has more goes first.
            weight: The slots that it takes; None, or more than there are, means all.
        """
        count = self._jobs if weight is None else min(weight, self._jobs)
        with self._changed:
            place = QueueEntry(rank=rank, count=count, number=self._came)
            self._came += 1
            self._line.append(place)
        try:
            yield place
        finally:
            self._leave(place)

    @contextmanager
    def turn(self, place: QueueEntry, deadline: Deadline) -> Iterator[None]:
        """Run the block in the slots of `place`, as soon as it is first and they are free.

        Raises:
            CancelledError: The run is ending.
        """
        with self._changed:
            place.waits = True
            while not self.has_room_for(place):
                self._changed.wait(_LOOK_EVERY)
                deadline.check()
            self._free -= place.count
            self._leave(place)
        try:
            yield
        finally:
            with self._changed:
                self._free += place.count
                self._changed.notify_all()

    def has_room_for(self, place: QueueEntry) -> bool:
        """Whether there are slots for it beside those who go before it.

        Nobody slips in before a heavy one that still has too few: it might never get them.
        """
        with self._changed:
            ahead = (one.count for one in self._line if one.goes_before(place))
            return self._free - sum(ahead) >= place.count

    def _leave(self, place: QueueEntry) -> None:
        with self._changed:
            if place in self._line:
                self._line.remove(place)
                self._changed.notify_all()

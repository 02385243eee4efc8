"""How many builds run at a time, over all of a run, and which goes first.

A build's rank is the longest path behind it: images that start from it, services that run it, and
services that need those.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.system.timeline import PHASE_KINDS, Deadline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import Image, Phase, Plan


_Node = tuple[str, str]
"""`image` or `service`, and its name."""


def build_ranks(plan: Plan, seconds: Mapping[str, float]) -> dict[str, float]:
    """Return, for each image of the plan, the seconds of its longest remaining path.

    Args:
        plan: Images and services, each after what it needs.
        seconds: Phase to its seconds in an earlier run. Without any, the mean of others counts.
    """
    needs = _needs(plan)
    own = {
        **_filled({node: _known(node, seconds) for node in needs if node[0] == "image"}),
        **_filled({node: _known(node, seconds) for node in needs if node[0] == "service"}),
    }
    paths = dict(own)
    for node in reversed(needs):  # those that wait for it come before it
        for need in needs[node]:
            paths[need] = max(paths[need], own[need] + paths[node])
    return {image.name: paths["image", image.name] for image in plan.images}


def _needs(plan: Plan) -> dict[_Node, list[_Node]]:
    """Return what each image and service waits for; each stands after that."""
    images: dict[_Node, list[_Node]] = {
        ("image", image.name): [("image", name) for name in image.needs] for image in plan.images
    }
    services: dict[_Node, list[_Node]] = {
        ("service", service.name): [
            *(("image", name) for name in service.images),
            *(("service", need.name) for need in service.needs),
        ]
        for service in plan.services
    }
    return {**images, **services}


def _known(node: _Node, seconds: Mapping[str, float]) -> float | None:
    kind, name = node
    phases = (f"{verb} {name}" for verb, one in PHASE_KINDS.items() if one.ranks == kind)
    known = [seconds[phase] for phase in phases if phase in seconds]
    return sum(known) if known else None


def _filled(seconds: Mapping[_Node, float | None]) -> dict[_Node, float]:
    usual = _mean(value for value in seconds.values() if value is not None)
    return {node: usual if value is None else value for node, value in seconds.items()}


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known) if known else 1.0


_LOOK_EVERY = 0.1


_HOLD = 2.0
"""Seconds for which a slot is kept for a build that goes first, but may prove to be needless."""


@dataclass(slots=True, eq=False)
class QueueEntry:
    """A build in the queue: it may build first, waits once it is known to build, then leaves.

    Attributes:
        rank: The entry with the higher rank goes first; of equal ones the earlier.
        count: The slots that it takes.
        number: Its position in the order of arrival.
        hold: How long a slot is kept for it before it is known to build.
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
        self._queue: list[QueueEntry] = []
        self._came = 0
        self._changed = threading.Condition()

    @contextmanager
    def queue(self, *, rank: float = 0.0, weight: int | None = 1) -> Iterator[QueueEntry]:
        """Queue in the block: to find out whether to build, then for a `turn`.

        Args:
            rank: Who has more goes first.
            weight: The slots that it takes; None, or more than there are, means all.
        """
        count = self._jobs if weight is None else min(weight, self._jobs)
        with self._changed:
            entry = QueueEntry(rank=rank, count=count, number=self._came)
            self._came += 1
            self._queue.append(entry)
        try:
            yield entry
        finally:
            self._leave(entry)

    @contextmanager
    def turn(self, entry: QueueEntry, deadline: Deadline) -> Iterator[None]:
        """Run the block in the slots of `entry`, as soon as it is first and they are free.

        Raises:
            CancelledError: The run is ending.
        """
        with self._changed:
            entry.waits = True
            while not self.has_room_for(entry):
                self._changed.wait(_LOOK_EVERY)
                deadline.check()
            self._free -= entry.count
            self._leave(entry)
        try:
            yield
        finally:
            with self._changed:
                self._free += entry.count
                self._changed.notify_all()

    def has_room_for(self, entry: QueueEntry) -> bool:
        """Whether there are slots for it in addition to those ahead of it.

        No build overtakes a heavy one that still has too few: it might never get them.
        """
        with self._changed:
            ahead = (one.count for one in self._queue if one.goes_before(entry))
            return self._free - sum(ahead) >= entry.count

    def _leave(self, entry: QueueEntry) -> None:
        with self._changed:
            if entry in self._queue:
                self._queue.remove(entry)
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class MoreJobs:
    """What a higher `--kindinfra-build-jobs` can save.

    Attributes:
        jobs: The lowest number with which it saves that much.
        seconds: The most that it saves: builds that no longer wait for a slot may be slower.
    """

    jobs: int
    seconds: float


_WORTH_SECONDS = 1.0


def gain_of_more_jobs(
    builds: Sequence[Phase], images: Sequence[Image], *, jobs: int
) -> MoreJobs | None:
    """Return what more slots could have saved, None if that is less than a second.

    Args:
        builds: The builds of a run.
        images: The images, for their needs and weights.
        jobs: The slots that the run had.
    """
    declared = {image.name: image for image in images}
    past = [
        _PastBuild(
            name=build.subject,
            seconds=build.end - build.start,
            needs=declared[build.subject].needs,
            weight=None if declared[build.subject].exclusive else declared[build.subject].weight,
        )
        for build in sorted(builds, key=lambda build: build.start)
        if build.subject in declared
    ]
    most = max(jobs, sum(build.weight or 1 for build in past))
    elapsed = {number: _elapsed(past, number) for number in range(jobs, most + 1)}
    enough = next(one for one in elapsed if elapsed[one] < elapsed[most] + _WORTH_SECONDS)
    seconds = elapsed[jobs] - elapsed[enough]
    return MoreJobs(enough, seconds) if seconds >= _WORTH_SECONDS else None


@dataclass(frozen=True, slots=True)
class _PastBuild:
    name: str
    seconds: float
    needs: tuple[str, ...]
    weight: int | None

    def count(self, jobs: int) -> int:
        """Return the slots that it takes."""
        return jobs if self.weight is None else min(self.weight, jobs)


def _elapsed(builds: Sequence[_PastBuild], jobs: int) -> float:
    """Return the seconds that the builds take in so many slots; earlier ones go first."""
    queue, running, at = list(builds), dict[_PastBuild, float](), 0.0
    while queue:
        unfinished = {build.name for build in (*queue, *running)}
        free = jobs - sum(build.count(jobs) for build in running)
        first = next((one for one in queue if not unfinished & {*one.needs}), None)
        if first and first.count(jobs) <= free:
            queue.remove(first)
            running[first] = at + first.seconds
        elif running:
            done = min(running, key=lambda build: running[build])
            at = running.pop(done)
        else:  # an image that needs itself in a circle is no build that began
            break
    return max(running.values(), default=at)

"""Never more builds at a time than allowed, and the one with the longest path behind it first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError
from pytest_kindinfra.images.slots import BuildSlots, MoreJobs, gain_of_more_jobs
from pytest_kindinfra.model import Image, Phase
from pytest_kindinfra.system.timeline import Deadline
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@contextmanager
def turn(
    slots: BuildSlots, deadline: Deadline, *, rank: float = 0.0, weight: int | None = 1
) -> Iterator[None]:
    """Stand in line, and build in the block."""
    with slots.queue(rank=rank, weight=weight) as place, slots.turn(place, deadline):
        yield


class NoticedDeadline(Deadline):
    """A deadline that notes when somebody who waits looks at it."""

    noticed: threading.Event

    def __init__(self) -> None:
        super().__init__(Deadline.after(20).at)
        object.__setattr__(self, "noticed", threading.Event())

    def check(self) -> None:
        self.noticed.set()
        super().check()


@dataclass
class Inside:
    """What is in a block at the same time."""

    now: int = 0
    most: int = 0
    beside_heaviest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, slots: int, *, alone: bool = False) -> None:
        with self.lock:
            self.now += slots
            self.most = max(self.most, self.now)
            if alone:
                self.beside_heaviest = max(self.beside_heaviest, self.now - slots)

    def leave(self, slots: int) -> None:
        with self.lock:
            self.now -= slots


class TestHowMany:
    @pytest.mark.parametrize("jobs", [1, 3])
    def test_never_more_builds_run_than_there_are_slots(self, jobs: int, soon: Deadline) -> None:
        slots, inside = BuildSlots(jobs), Inside()
        full = threading.Event()

        def build(number: int) -> None:
            weight = None if number % 8 == 7 else 1
            count = jobs if weight is None else 1
            with turn(slots, soon, weight=weight):
                inside.enter(count, alone=weight is None)
                if inside.most == jobs:
                    full.set()
                full.wait(60)  # nobody leaves before all slots were taken once
                inside.leave(count)

        with ThreadPoolExecutor(24) as pool:
            list(pool.map(build, range(24)))

        assert (inside.most, inside.beside_heaviest, inside.now) == (jobs, 0, 0)

    def test_a_heavy_build_counts_as_several(self, soon: Deadline) -> None:
        slots, inside = BuildSlots(3), Inside()
        full = threading.Event()

        def build(weight: int) -> None:
            with turn(slots, soon, weight=weight):
                inside.enter(weight)
                if inside.most == 3:
                    full.set()
                full.wait(60)
                inside.leave(weight)

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(build, [2, 1] * 6))

        assert (inside.most, inside.now) == (3, 0)

    @pytest.mark.parametrize("weight", [5, None], ids=["too heavy", "exclusive"])
    def test_one_that_wants_more_than_there_are_takes_all(
        self, weight: int | None, soon: Deadline
    ) -> None:
        slots, waiting = BuildSlots(2), NoticedDeadline()

        def small() -> None:
            with turn(slots, waiting):
                pass

        with ThreadPoolExecutor(1) as pool:
            with turn(slots, soon, weight=weight):
                beside = pool.submit(small)
                assert waiting.noticed.wait(60)
                assert not beside.done()
            beside.result(5)

    def test_two_that_want_all_do_not_block_each_other(self, soon: Deadline) -> None:
        slots, inside = BuildSlots(3), Inside()

        def build(_: int) -> None:
            with turn(slots, soon, weight=None):
                inside.enter(1)
                inside.leave(1)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(build, range(20)))

        assert inside.most == 1

    def test_a_build_that_fails_gives_its_slot_back(self, soon: Deadline) -> None:
        slots = BuildSlots(1)

        for _ in range(2):
            with pytest.raises(LookupError), turn(slots, soon):
                raise LookupError

    @pytest.mark.parametrize("weight", [1, None], ids=["plain", "exclusive"])
    def test_the_end_of_the_run_ends_the_wait_for_a_slot(
        self, soon: Deadline, *, weight: int | None
    ) -> None:
        slots, waiting = BuildSlots(1 if weight else 2), NoticedDeadline()

        def take(deadline: Deadline) -> None:
            with turn(slots, deadline, weight=weight):
                pass

        with ThreadPoolExecutor(1) as pool, turn(slots, soon):
            waited = pool.submit(take, waiting)
            assert waiting.noticed.wait(60)
            waiting.cancelled.set()

            with pytest.raises(CancelledError):
                waited.result(5)
            if weight is None:  # nor does it stand in the way of others any longer
                with turn(slots, soon):
                    pass

        take(soon)


class TestTheOrder:
    def order_of(self, slots: BuildSlots, *places: tuple[str, float, int | None]) -> list[str]:
        """Return the order in which builds go that all wait while every slot is taken."""
        order, free = list[str](), threading.Event()

        def hold() -> None:
            with turn(slots, Deadline.after(20), weight=None):
                order.append("")
                free.wait(60)

        def build(name: str, rank: float, weight: int | None, deadline: Deadline) -> None:
            with turn(slots, deadline, rank=rank, weight=weight):
                order.append(name)

        with ThreadPoolExecutor(len(places) + 1) as pool:
            pool.submit(hold)
            assert eventually(lambda: order)
            for name, rank, weight in places:  # one after another stands in line
                deadline = NoticedDeadline()
                pool.submit(build, name, rank, weight, deadline)
                assert deadline.noticed.wait(60)
            free.set()
        return order[1:]

    def test_the_longest_path_goes_first_in_any_order_of_arrival(self) -> None:
        order = self.order_of(BuildSlots(1), ("short", 1, 1), ("long", 9, 1), ("middle", 5, 1))

        assert order == ["long", "middle", "short"]

    def test_equal_ones_go_as_they_came(self) -> None:
        order = self.order_of(BuildSlots(1), ("a", 1, 1), ("b", 1, 1), ("c", 1, 1))

        assert order == ["a", "b", "c"]

    def test_a_heavy_one_goes_before_those_that_come_later(self, soon: Deadline) -> None:
        """Or it would wait as long as there are others."""
        slots, order = BuildSlots(2), list[str]()
        heavy, later = NoticedDeadline(), NoticedDeadline()
        release = [threading.Event(), threading.Event()]

        def hold(number: int) -> None:
            with turn(slots, soon):
                order.append("held")
                release[number].wait(60)

        def take(name: str, deadline: Deadline) -> None:
            with turn(slots, deadline, weight=None if name == "heavy" else 1):
                order.append(name)

        with ThreadPoolExecutor(4) as pool:
            for number in range(2):
                pool.submit(hold, number)
            assert eventually(lambda: len(order) == 2)
            pool.submit(take, "heavy", heavy)
            assert heavy.noticed.wait(60)
            pool.submit(take, "later", later)
            release[0].set()  # one slot is free, which the later one could have
            assert later.noticed.wait(60)
            release[1].set()

        assert order == ["held", "held", "heavy", "later"]

    def test_a_slot_is_kept_for_one_that_goes_first_but_does_not_know_yet_whether_it_builds(
        self, soon: Deadline
    ) -> None:
        """Its files are still read; the short one, which was quicker at that, must not slip in."""
        slots, order = BuildSlots(1), list[str]()
        waiting = NoticedDeadline()

        def build_short() -> None:
            with turn(slots, waiting, rank=1):
                order.append("short")

        with ThreadPoolExecutor(1) as pool:
            with slots.queue(rank=9) as place:
                short = pool.submit(build_short)
                assert waiting.noticed.wait(60)
                with slots.turn(place, soon):
                    order.append("long")
            short.result(5)

        assert order == ["long", "short"]

    def test_no_slot_is_kept_for_one_that_proves_to_be_built_already(self, soon: Deadline) -> None:
        slots = BuildSlots(1)

        with slots.queue(rank=9):
            pass

        with turn(slots, soon, rank=1):
            pass

    def test_with_slots_for_both_none_waits(self, soon: Deadline) -> None:
        slots = BuildSlots(2)

        with slots.queue(rank=9), turn(slots, soon, rank=1):
            pass

    def test_a_slot_is_not_kept_for_long(self, soon: Deadline) -> None:
        slots = BuildSlots(1)

        with slots.queue(rank=9) as slow:
            slow.hold = Deadline.after(0)
            with turn(slots, soon, rank=1):
                pass


def built(name: str, start: float, end: float) -> Phase:
    return Phase(kind="build", subject=name, start=start, end=end)


class TestWhatMoreSlotsWouldHaveSaved:
    THREE = (built("a", 0, 10), built("b", 10, 30), built("c", 30, 40))
    """In one slot."""

    def test_as_much_as_the_longest_build_leaves(self) -> None:
        images = [Image(name=name) for name in "abc"]

        assert gain_of_more_jobs(self.THREE, images, jobs=1) == MoreJobs(2, 20.0)

    def test_an_image_waits_for_those_that_it_needs(self) -> None:
        images = [Image(name="a"), Image(name="b", needs=("a",)), Image(name="c", needs=("b",))]

        assert gain_of_more_jobs(self.THREE, images, jobs=1) is None

    def test_needs_that_were_not_built_are_there(self) -> None:
        images = [Image(name="a"), Image(name="b", needs=("cached",)), Image(name="c")]

        assert gain_of_more_jobs(self.THREE, images, jobs=1) == MoreJobs(2, 20.0)

    def test_a_heavy_build_takes_more_of_them(self) -> None:
        images = [Image(name="a"), Image(name="b", weight=3), Image(name="c")]

        assert gain_of_more_jobs(self.THREE, images, jobs=1) == MoreJobs(4, 20.0)

    def test_a_build_that_runs_alone_gains_nothing(self) -> None:
        images = [Image(name="a"), Image(name="b", exclusive=True), Image(name="c")]
        builds = (built("a", 0, 10), built("b", 10, 30), built("c", 30, 40))

        assert gain_of_more_jobs(builds, images, jobs=2) is None

    def test_less_than_a_second_is_not_worth_it(self) -> None:
        builds = (built("a", 0, 30), built("b", 30, 30.9))

        assert gain_of_more_jobs(builds, [Image(name="a"), Image(name="b")], jobs=1) is None

    def test_builds_that_waited_for_no_slot_gain_nothing(self) -> None:
        builds = (built("a", 0, 10), built("b", 50, 60))

        assert gain_of_more_jobs(builds, [Image(name="a"), Image(name="b")], jobs=2) is None

"""Which tests may run beside each other: nothing overlaps that must not, and nobody starves."""

from __future__ import annotations

import errno
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kindinfra.errors import CancelledError, StateError
from pytest_kindinfra.session.heavy import TurnLines, waits_line
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.records import Ticket, Turn, TurnQueue
from pytest_kindinfra.state.turns import Turns, obstacles

if TYPE_CHECKING:
    from collections.abc import Sequence


def ticket(number: int, *, granted: bool = False, **turn: object) -> Ticket:
    return Ticket(
        number=number, turn=Turn(**turn), test=f"test_{number}", holder=f"gw{number}.1",  # type: ignore[arg-type]
        since=0.0, granted=granted,
    )  # fmt: skip


def numbers(found: Sequence[Ticket]) -> list[int]:
    return [one.number for one in found]


class TestObstacles:
    def test_tests_without_a_lock_do_not_wait(self) -> None:
        queue = [ticket(1, granted=True), ticket(2)]

        assert obstacles(queue[1], queue, capacity=None) == []

    def test_one_waits_for_the_same_lock(self) -> None:
        queue = [ticket(1, granted=True, locks=("a", "b")), ticket(2, locks=("b",))]

        assert numbers(obstacles(queue[1], queue, capacity=None)) == [1]

    def test_other_locks_do_not_matter(self) -> None:
        queue = [ticket(1, granted=True, locks=("a",)), ticket(2, locks=("b",))]

        assert obstacles(queue[1], queue, capacity=None) == []

    def test_an_exclusive_one_waits_for_all_and_all_wait_for_it(self) -> None:
        queue = [ticket(1, granted=True), ticket(2, exclusive=True), ticket(3)]

        assert numbers(obstacles(queue[1], queue, capacity=None)) == [1]
        assert numbers(obstacles(queue[2], queue, capacity=None)) == [2]

    def test_a_test_does_not_overtake_one_that_it_conflicts_with(self) -> None:
        queue = [
            ticket(1, granted=True, locks=("a",)),
            ticket(2, locks=("a", "b")),
            ticket(3, locks=("b",)),
            ticket(4, locks=("c",)),
        ]

        assert numbers(obstacles(queue[2], queue, capacity=None)) == [2]
        assert obstacles(queue[3], queue, capacity=None) == []

    def test_weights_fill_the_capacity(self) -> None:
        queue = [ticket(1, granted=True, weight=3), ticket(2), ticket(3)]

        assert obstacles(queue[1], queue, capacity=4) == []
        assert numbers(obstacles(queue[2], queue, capacity=4)) == [1, 2]

    def test_one_that_is_too_heavy_counts_as_all(self) -> None:
        queue = [ticket(1, weight=9)]

        assert obstacles(queue[0], queue, capacity=4) == []


TURNS = st.builds(
    Turn,
    locks=st.sets(st.sampled_from("abc"), max_size=2).map(lambda names: tuple(sorted(names))),
    exclusive=st.booleans(),
    weight=st.integers(1, 5),
)


@given(st.lists(TURNS, min_size=1, max_size=8), st.one_of(st.none(), st.integers(1, 4)))
def test_whatever_is_asked_for_somebody_may_go_until_all_have_gone(
    turns: list[Turn], capacity: int | None
) -> None:
    queue = [
        Ticket(number=at, turn=turn, test="", holder="", since=0.0) for at, turn in enumerate(turns)
    ]
    order: list[int] = []
    while queue:
        running = [one for one in queue if not obstacles(one, queue, capacity=capacity)]
        assert running, "a circle"
        assert queue[0] in running, "the first one starves"
        order += numbers(running)
        queue = [one for one in queue if one not in running]
    assert sorted(order) == list(range(len(turns)))


class TestQueue:
    def test_a_turn_is_taken_and_given_back(self, run: RunDirectory) -> None:
        first, second = Turns(run, "gw0"), Turns(run, "gw1")
        held = first.take(Turn(locks=("db",)), "test_a", meanwhile=lambda: None)
        taken = threading.Event()

        def wait() -> None:
            ticket = second.take(Turn(locks=("db",)), "test_b", meanwhile=lambda: None)
            taken.set()
            second.give_back(ticket)

        thread = threading.Thread(target=wait)
        thread.start()
        assert not taken.wait(0.3)
        first.give_back(held)
        assert taken.wait(20)
        thread.join()
        first.close()
        second.close()

    def test_what_a_killed_process_had_is_free(self, run: RunDirectory) -> None:
        killed = Turns(run, "gw0")
        killed.take(Turn(exclusive=True), "test_a", meanwhile=lambda: None)
        killed.close()  # as the end of its process does
        other = Turns(run, "gw1")

        held = other.take(Turn(), "test_b", meanwhile=lambda: None)
        assert held.test == "test_b"
        other.close()

    def test_who_gives_up_leaves_the_queue(self, run: RunDirectory) -> None:
        first, second = Turns(run, "gw0"), Turns(run, "gw1")
        held = first.take(Turn(locks=("db",)), "test_a", meanwhile=lambda: None)

        def end() -> None:
            msg = "the run is ending"
            raise CancelledError(msg)

        with pytest.raises(CancelledError):
            second.take(Turn(locks=("db",)), "test_b", meanwhile=end)
        assert first.waiting() == []
        first.give_back(held)
        first.close()
        second.close()

    def test_a_line_says_which_test_waits_for_which(self, run: RunDirectory) -> None:
        run.write(TurnQueue())
        first = Turns(run, "gw0")
        first.take(Turn(locks=("db",)), "test_a", meanwhile=lambda: None)
        second = Turns(run, "gw1")
        second._join(Turn(locks=("db",), weight=2), "test_b")  # noqa: SLF001 - without waiting
        lines = TurnLines(run, None, lambda _line: None)
        lines.close()
        at = time.time()

        assert lines.due(at=at + 5) == []
        what = 'test_b (lock "db", weight 2); before it: test_a in gw0'
        assert lines.due(at=at + 12) == [f"gw1 has waited 12 s for its turn: {what}"]
        assert lines.due(at=at + 20) == []
        assert len(lines.due(at=at + 43)) == 1
        first.close()
        second.close()

    def test_a_killed_test_is_not_said_to_wait(self, run: RunDirectory) -> None:
        """It used to be shown, with nothing after `before it:`."""
        first, killed = Turns(run, "gw0"), Turns(run, "gw1")
        held = first.take(Turn(locks=("db",)), "test_a", meanwhile=lambda: None)
        killed._join(Turn(locks=("db",)), "test_b")  # noqa: SLF001 - without waiting
        assert [one.test for one, _ in first.waiting()] == ["test_b"]

        killed.close()  # as the end of its process does
        assert first.waiting() == []
        first.give_back(held)
        first.close()

    def test_who_may_go_at_once_is_not_said_to_wait(self, run: RunDirectory) -> None:
        first = Turns(run, "gw0")
        first._join(Turn(locks=("db",)), "test_a")  # noqa: SLF001 - not granted yet

        assert first.waiting() == []
        first.close()

    def test_a_number_that_is_used_again_gets_a_line_of_its_own(self, run: RunDirectory) -> None:
        """The line of an earlier test with that number used to count for it."""
        first, second = Turns(run, "gw0"), Turns(run, "gw1")
        lines = TurnLines(run, None, lambda _line: None)
        lines.close()
        said = []
        for test in ("test_b", "test_c"):
            held = first.take(Turn(exclusive=True), "test_a", meanwhile=lambda: None)
            ticket = second._join(Turn(), test)  # noqa: SLF001 - without waiting
            assert ticket.number == 2
            said += lines.due(at=ticket.since + 12)
            second.give_back(ticket)
            first.give_back(held)

        assert [line.partition(": ")[2] for line in said] == [
            "test_b; before it: test_a in gw0",
            "test_c; before it: test_a in gw0",
        ]
        first.close()
        second.close()

    def test_a_run_directory_that_was_removed_fails_the_test_that_waits(
        self, run: RunDirectory
    ) -> None:
        """It used to be a ValueError, which ended the session with an internal error."""
        first, second = Turns(run, "gw0"), Turns(run, "gw1")
        first.take(Turn(locks=("db",)), "test_a", meanwhile=lambda: None)

        with pytest.raises(StateError) as caught:
            second.take(
                Turn(locks=("db",)), "test_b", meanwhile=lambda: run.file(TurnQueue).unlink()
            )

        assert str(caught.value) == (
            "test_b has lost its place in the queue of tests: another process removed files of "
            f"{run.path}\n"
            "To fix: run again, and leave the artifacts folder alone while tests run"
        )
        first.close()
        second.close()

    def test_a_turn_that_cannot_be_given_back_is_free_all_the_same(
        self, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It used to end the session with an internal error, while the other workers waited."""
        first, second = Turns(run, "gw0"), Turns(run, "gw1")
        held = first.take(Turn(locks=("db",)), "test_a", meanwhile=lambda: None)

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "write", fail)
            first.give_back(held)

        taken = second.take(Turn(locks=("db",)), "test_b", meanwhile=lambda: None)
        second.give_back(taken)
        again = first.take(Turn(locks=("db",)), "test_c", meanwhile=lambda: None)
        assert (taken.test, again.test) == ("test_b", "test_c")
        first.close()
        second.close()


class Report:
    def __init__(self, nodeid: str, *waits: float) -> None:
        self.nodeid = nodeid
        self.when = "call"
        self.user_properties = [("kindinfra_turn_s", one) for one in waits]


def test_the_end_says_how_long_tests_waited() -> None:
    reports = [Report("test_a", 1.5), Report("test_b", 3.0, 1.0), Report("test_c"), object()]

    assert waits_line(reports) == "2 tests waited 5.5 s for their turns, test_b longest: 4.0 s"
    assert waits_line([Report("test_c")]) == ""

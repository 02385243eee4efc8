"""Deadlines, waiting, and the record of who worked when."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_kindinfra
from pytest_kindinfra.errors import CancelledError
from pytest_kindinfra.model import Phase
from pytest_kindinfra.system.timeline import (
    PHASE_KINDS,
    Deadline,
    Timeline,
    monotonic,
    now,
    retry,
    wait_until,
)
from tests.fakes import DeadlineWhen

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestDeadline:
    def test_what_is_left_never_falls_below_zero(self) -> None:
        deadline = Deadline(monotonic() - 10)

        assert deadline.left == 0
        assert deadline.passed

    def test_a_deadline_ahead_has_not_passed(self) -> None:
        deadline = Deadline.after(60)

        assert 59 < deadline.left <= 60
        assert not deadline.passed

    @pytest.mark.parametrize(
        ("outer", "inner", "at_most"),
        [pytest.param(60, 5, 5, id="the inner is nearer"), pytest.param(5, 60, 5, id="the outer")],
    )
    def test_a_part_of_the_work_never_outlives_the_whole(
        self, outer: float, inner: float, at_most: float
    ) -> None:
        part = Deadline.after(outer).within(inner)

        assert at_most - 1 < part.left <= at_most

    def test_the_end_of_the_run_reaches_every_part(self) -> None:
        whole = Deadline.after(60)
        part = whole.within(5)
        whole.cancelled.set()

        with pytest.raises(CancelledError, match="the run is ending"):
            part.check()

    def test_nothing_is_raised_while_the_run_goes_on(self) -> None:
        Deadline.after(60).check()

    def test_a_pause_ends_at_once_when_the_run_ends(self) -> None:
        deadline = Deadline.after(60)
        timer = threading.Timer(0.02, deadline.cancelled.set)
        timer.start()
        start = monotonic()

        with pytest.raises(CancelledError):
            deadline.pause(30)

        assert monotonic() - start < 20
        timer.join()

    def test_a_pause_does_not_pass_the_deadline(self) -> None:
        start = monotonic()

        Deadline.after(0.02).pause(30)

        assert monotonic() - start < 20


class TestWaitUntil:
    def test_what_the_probe_found_comes_back(self) -> None:
        answers = iter([None, "", 0, "found", "too late"])

        assert wait_until(lambda: next(answers), Deadline.after(60), every=0.001) == "found"

    def test_the_probe_is_asked_once_though_the_deadline_has_passed(self) -> None:
        assert wait_until(lambda: "found", Deadline(monotonic() - 1), every=60) == "found"

    def test_the_probe_is_asked_once_more_after_the_deadline(self) -> None:
        asked: list[bool] = []
        deadline = DeadlineWhen(lambda: len(asked) >= 2)

        def probe() -> None:
            asked.append(deadline.passed)

        assert wait_until(probe, deadline, every=0.001) is None
        assert asked == [False, False, True]

    def test_the_end_of_the_run_ends_it_before_the_probe_is_asked(self) -> None:
        deadline = Deadline.after(60)
        deadline.cancelled.set()
        asked: list[int] = []

        with pytest.raises(CancelledError):
            wait_until(lambda: asked.append(1), deadline, every=0.001)

        assert asked == []

    def test_what_the_probe_raises_comes_through(self) -> None:
        def probe() -> None:
            msg = "no such thing"
            raise LookupError(msg)

        with pytest.raises(LookupError, match="no such thing"):
            wait_until(probe, Deadline.after(60), every=0.001)


class TestTimeline:
    def test_a_block_becomes_a_phase(self) -> None:
        timeline = Timeline()
        before = now()

        with timeline.span("build", "api") as span:
            span.note = "cached"

        (phase,) = timeline.phases
        assert (phase.name, phase.ok, phase.note) == ("build api", True, "cached")
        assert before <= phase.start <= phase.end <= now()

    def test_a_block_that_raises_is_a_failed_phase(self) -> None:
        timeline = Timeline()

        with pytest.raises(LookupError), timeline.span("build", "api"):
            raise LookupError

        assert [(phase.ok, phase.note) for phase in timeline.phases] == [(False, "")]

    def test_a_block_that_the_run_ended_was_given_up(self) -> None:
        timeline = Timeline()

        with pytest.raises(CancelledError), timeline.span("build", "api"):
            raise CancelledError

        assert [(phase.ok, phase.note) for phase in timeline.phases] == [(False, "given up")]

    def test_a_block_that_does_not_count_leaves_nothing(self) -> None:
        timeline, told = Timeline(), list[tuple[str, bool]]()
        timeline.subscribe(lambda phase, ended: told.append((phase.name, ended)))

        with timeline.span("build", "api") as span:
            span.counts = False

        assert timeline.phases == ()
        assert timeline.running == ()
        assert told == [("build api", False)]

    def test_a_subscriber_whose_terminal_is_gone_ends_no_work(self) -> None:
        timeline, told = Timeline(), list[str]()

        def broken(_phase: object, _ended: object) -> None:
            raise BrokenPipeError

        timeline.subscribe(broken)
        timeline.subscribe(lambda phase, _ended: told.append(phase.name))

        with timeline.span("delete", "cluster"):
            done = True

        assert done
        assert [phase.ok for phase in timeline.phases] == [True]
        assert told == ["delete cluster"] * 2

    def test_subscribers_hear_of_start_and_end(self) -> None:
        timeline, told = Timeline(), list[tuple[str, bool]]()
        timeline.subscribe(lambda phase, ended: told.append((phase.name, ended)))

        with timeline.span("create", "cluster"):
            assert told == [("create cluster", False)]
        timeline.add(Phase(kind="load", subject="api", start=1, end=2))

        assert told[1:] == [("create cluster", True), ("load api", True)]

    def test_what_goes_on_now_is_known_by_its_start(self) -> None:
        timeline = Timeline()

        with timeline.span("create", "cluster"), timeline.span("build", "api"):
            running = timeline.running

        assert [(kind, subject) for kind, subject, *_ in running] == [
            ("create", "cluster"),
            ("build", "api"),
        ]
        assert timeline.running == ()

    def test_phases_come_by_start_whenever_they_ended(self) -> None:
        timeline = Timeline()
        for subject, start, end in (("b", 2.0, 3.0), ("a", 1.0, 9.0)):
            timeline.add(Phase(kind="build", subject=subject, start=start, end=end))

        assert [phase.subject for phase in timeline.phases] == ["a", "b"]

    def test_phases_of_many_threads_are_all_kept(self) -> None:
        timeline = Timeline()

        def work(number: int) -> None:
            for step in range(20):
                with timeline.span("build", f"{number}-{step}"):
                    pass

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len({phase.subject for phase in timeline.phases}) == 8 * 20


class TestRetry:
    def test_it_ends_with_the_first_try_that_works(self) -> None:
        tries: Iterator[str | Exception] = iter([OSError("one"), "done"])
        seen: list[Exception] = []

        assert (
            retry(lambda: answer(next(tries)), tries=3, on=OSError, between=seen.append) == "done"
        )
        assert [str(error) for error in seen] == ["one"]

    def test_the_last_failure_is_raised_with_nothing_after_it(self) -> None:
        tries = iter([OSError("one"), OSError("two")])
        seen: list[Exception] = []

        with pytest.raises(OSError, match="two"):
            retry(lambda: answer(next(tries)), tries=2, on=OSError, between=seen.append)

        assert [str(error) for error in seen] == ["one"]

    def test_another_kind_of_error_is_raised_at_once(self) -> None:
        tries: Iterator[str | Exception] = iter([ValueError("one"), "done"])

        with pytest.raises(ValueError, match="one"):
            retry(lambda: answer(next(tries)), tries=2, on=OSError)


def answer(one: str | Exception) -> str:
    if isinstance(one, Exception):
        raise one
    return one


def test_every_kind_of_phase_that_is_recorded_is_in_the_table() -> None:
    sources = Path(pytest_kindinfra.__file__).parent.rglob("*.py")
    texts = [source.read_text("utf-8") for source in sources]
    pattern = re.compile(r'(?:\.span\(|\bPhase\(\s*kind=)"(\w+)"')
    kinds = {kind for text in texts for kind in pattern.findall(text)}

    assert {"build", "load", "deploy", "queue"} <= kinds <= PHASE_KINDS.keys()

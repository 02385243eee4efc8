"""One interrupt is raised at a time, and none while a run ends."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.system import interrupts as module
from pytest_kindinfra.system.interrupts import Interrupts, deferring

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in ALL]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _usual_handlers() -> Iterator[None]:
    """What a shell's background job and another test may have changed."""
    before = handlers()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in zip(ALL, before, strict=True):
        signal.signal(number, handler)  # type: ignore[arg-type]


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    made = Interrupts()
    yield made
    made.restore()


class TestRaised:
    @pytest.mark.parametrize("number", ALL)
    def test_the_first_is(self, interrupts: Interrupts, number: signal.Signals) -> None:
        interrupts.catch(sigint=True)

        with pytest.raises(KeyboardInterrupt):
            send(number)

        assert not interrupts.hurried

    @pytest.mark.parametrize("second", ALL)
    def test_one_that_follows_shortly_is_not(
        self, interrupts: Interrupts, second: signal.Signals
    ) -> None:
        interrupts.catch(sigint=True)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)

        send(second)

        assert interrupts.hurried

    def test_one_that_comes_later_is(
        self, interrupts: Interrupts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_APART", 0.0)
        interrupts.catch(sigint=True)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)

        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)

        assert interrupts.hurried

    def test_none_is_while_another_is_being_handled(self, interrupts: Interrupts) -> None:
        interrupts.raised()

        for number in ALL:
            send(number)

        assert interrupts.hurried


class TestDeferred:
    def test_four_only_hurry_and_the_fifth_is_raised(
        self, interrupts: Interrupts, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_APART", 0.0)
        event = interrupts.next()
        with interrupts.deferred():
            send(signal.SIGINT)
            assert event.wait(60)
            for number in ALL:
                send(number)
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)

    def test_the_one_that_ended_the_tests_counts_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_APART", 0.0)
        hurried: list[str] = []
        interrupts = Interrupts(gives_up=3, hurrying=lambda: hurried.append("hurry"))
        interrupts.raised()
        with interrupts.deferred():
            send(signal.SIGINT)
            assert hurried == ["hurry"]
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
        interrupts.restore()

    def test_those_that_follow_shortly_count_as_one(self, interrupts: Interrupts) -> None:
        with interrupts.deferred():
            for _ in range(20):  # a key that is held down
                send(signal.SIGINT)

        assert interrupts.hurried

    def test_each_event_is_set_by_the_interrupt_that_follows(self, interrupts: Interrupts) -> None:
        with interrupts.deferred():
            first = interrupts.next()
            send(signal.SIGINT)
            second = interrupts.next()

            assert (first.wait(60), second.is_set()) == (True, False)
            send(signal.SIGTERM)
            assert second.wait(60)

    def test_one_that_comes_within_a_wait_for_the_event_blocks_nothing(
        self, interrupts: Interrupts
    ) -> None:
        with interrupts.deferred():
            event = interrupts.next()
            with event._cond:  # type: ignore[attr-defined]  # noqa: SLF001 - as `wait` holds it
                send(signal.SIGTERM)

            assert event.wait(60)

    def test_a_signal_that_is_ignored_stays_so(self, interrupts: Interrupts) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

        with interrupts.deferred():
            send(signal.SIGHUP)

        assert not interrupts.hurried
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def test_the_handlers_of_before_are_there_afterwards(self) -> None:
        before = handlers()

        with deferring() as interrupts:
            assert handlers() != before
            send(signal.SIGTERM)

        assert interrupts.hurried
        assert handlers() == before


class TestCaught:
    def test_a_foreign_handler_stays_until_the_end(self, interrupts: Interrupts) -> None:
        came: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: came.append(number))

        interrupts.catch(sigint=False)
        send(signal.SIGTERM)

        assert came == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_in_another_thread_nothing_is(self) -> None:
        before, errors = handlers(), []

        def end() -> None:
            try:
                with deferring() as interrupts:
                    interrupts.catch(sigint=True)
            except BaseException as error:  # noqa: BLE001 - for the test's own thread
                errors.append(error)

        thread = threading.Thread(target=end)
        thread.start()
        thread.join()

        assert errors == []
        assert handlers() == before

"""That an audit event is never lost, with fakes for PostgreSQL and Redis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from datastorage.recorder import Outcome, QueueUnavailableError, Recorder, StoreUnavailableError
from datastorage.records import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

_EVENT = AuditEvent.parse({"correlation_id": "r-1", "event_type": "test", "actor": "a test"})


class FakeStore:
    """Holds events while it is there."""

    def __init__(self, *, there: bool = True) -> None:
        self.there = there
        self.events: list[AuditEvent] = []

    def insert(self, events: Sequence[AuditEvent]) -> None:
        if not self.there:
            raise StoreUnavailableError
        self.events += events


class FakeQueue:
    """Holds letters while it is there."""

    def __init__(self, *letters: str, there: bool = True) -> None:
        self.there = there
        self.waiting = list(letters)
        self.taken: list[str] = []
        self.buried: list[str] = []

    def push(self, letters: Sequence[str]) -> None:
        if not self.there:
            raise QueueUnavailableError
        self.waiting += letters

    def take(self) -> str | None:
        if not self.waiting:
            return None
        self.taken.append(self.waiting.pop(0))
        return self.taken[-1]

    def settle(self, letter: str) -> None:
        self.taken.remove(letter)

    def put_back(self, letter: str) -> None:
        self.taken.remove(letter)
        self.waiting.insert(0, letter)

    def bury(self, letter: str) -> None:
        self.taken.remove(letter)
        self.buried.append(letter)


def test_an_event_goes_to_the_store() -> None:
    store, queue = FakeStore(), FakeQueue()

    assert Recorder(store, queue).record([_EVENT]) is Outcome.STORED
    assert (store.events, queue.waiting) == ([_EVENT], [])


def test_an_event_waits_while_the_store_is_away_and_comes_home_afterwards() -> None:
    store, queue = FakeStore(there=False), FakeQueue()
    recorder = Recorder(store, queue)

    assert recorder.record([_EVENT]) is Outcome.QUEUED
    store.there = True
    assert recorder.replay() is Outcome.STORED
    assert (store.events, queue.waiting, queue.taken) == ([_EVENT], [], [])


def test_a_caller_is_told_when_there_is_no_place_at_all() -> None:
    recorder = Recorder(FakeStore(there=False), FakeQueue(there=False))

    with pytest.raises(QueueUnavailableError):
        recorder.record([_EVENT])


def test_a_letter_goes_back_while_the_store_is_away() -> None:
    letters = [json.dumps(_EVENT.as_json()), "second"]
    queue = FakeQueue(*letters)

    with pytest.raises(StoreUnavailableError):
        Recorder(FakeStore(there=False), queue).replay()

    assert (queue.waiting, queue.taken) == (letters, [])


@pytest.mark.parametrize("letter", ["no JSON", "[]", "{}"])
def test_a_letter_that_nobody_can_read_is_not_in_the_way(letter: str) -> None:
    queue = FakeQueue(letter)

    assert Recorder(FakeStore(), queue).replay() is Outcome.BURIED
    assert (queue.waiting, queue.taken, queue.buried) == ([], [], [letter])


def test_an_empty_queue_is_nothing_to_do() -> None:
    assert Recorder(FakeStore(), FakeQueue()).replay() is Outcome.NOTHING

"""The promise that an audit event is never lost: to PostgreSQL, else to the dead-letter queue.

It knows both only by what it asks of them, so the promise is tested without either.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from datastorage.records import AuditEvent, InvalidRecordError

if TYPE_CHECKING:
    from collections.abc import Sequence


class StoreUnavailableError(Exception):
    """PostgreSQL cannot be reached now; the same call may work later."""


class QueueUnavailableError(Exception):
    """Redis cannot be reached now."""


class EventStore(Protocol):
    """Where events belong."""

    def insert(self, events: Sequence[AuditEvent]) -> None:
        """Keep all of *events* or none; one whose id is known already is no error.

        StoreUnavailableError: not now. InvalidRecordError: never.
        """


class Queue(Protocol):
    """Where events wait. What was taken stays known until it is settled, a crash included."""

    def push(self, letters: Sequence[str]) -> None:
        """Add *letters* at the end."""

    def take(self) -> str | None:
        """Take the first letter, waiting for one for a moment."""

    def settle(self, letter: str) -> None:
        """Forget a letter that was taken."""

    def put_back(self, letter: str) -> None:
        """Make a letter that was taken the first one again."""

    def bury(self, letter: str) -> None:
        """Move a letter out of the way that was taken and cannot be read."""


class Outcome(Enum):
    """Where events went, and what became of a letter."""

    STORED = "stored"
    QUEUED = "queued"
    BURIED = "buried"
    NOTHING = "nothing"


class Recorder:
    """Records events in the store or, when it is away, in the queue."""

    def __init__(self, store: EventStore, queue: Queue) -> None:
        self._store = store
        self._queue = queue

    def record(self, events: Sequence[AuditEvent]) -> Outcome:
        """Keep *events* somewhere. QueueUnavailableError: nowhere, and the caller must know."""
        try:
            self._store.insert(events)
        except StoreUnavailableError:
            self._queue.push([json.dumps(event.as_json()) for event in events])
            return Outcome.QUEUED
        return Outcome.STORED

    def replay(self) -> Outcome:
        """Bring one letter from the queue into the store. StoreUnavailableError: not yet."""
        letter = self._queue.take()
        if letter is None:
            return Outcome.NOTHING
        try:
            self._store.insert([AuditEvent.parse(json.loads(letter))])
        except (json.JSONDecodeError, InvalidRecordError):
            self._queue.bury(letter)
            return Outcome.BURIED
        except StoreUnavailableError:
            self._queue.put_back(letter)
            raise
        self._queue.settle(letter)
        return Outcome.STORED

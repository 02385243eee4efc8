"""The dead-letter queue: a Redis list, and a second one for what is being worked on.

A letter moves from list to list by one atomic command, so a crash at any point loses none.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from datastorage.recorder import QueueUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WAIT_FOR_A_LETTER = 1
_ANSWER_WITHIN = 2.0


class DeadLetterQueue:
    """Letters in Redis under *name*, ``NAME:taken`` and ``NAME:buried``."""

    def __init__(self, host: str, port: int, name: str) -> None:
        """Connect later: DataStorage works without Redis as long as PostgreSQL is there."""
        self._redis = redis.Redis(
            host=host,
            port=port,
            decode_responses=True,
            socket_connect_timeout=_ANSWER_WITHIN,
            socket_timeout=_WAIT_FOR_A_LETTER + _ANSWER_WITHIN,
            retry=Retry(NoBackoff(), 1),
        )
        self._waiting = name
        self._taken = f"{name}:taken"
        self._buried = f"{name}:buried"

    def alive(self) -> bool:
        """Tell whether Redis answers now."""
        try:
            with self._connection() as connection:
                return bool(connection.ping())
        except QueueUnavailableError:
            return False

    def recover(self) -> None:
        """Queue again what an earlier process took and did not settle."""
        with self._connection() as connection:
            while connection.lmove(self._taken, self._waiting, "RIGHT", "LEFT") is not None:
                pass

    def push(self, letters: Sequence[str]) -> None:
        """Add *letters* at the end."""
        with self._connection() as connection:
            connection.rpush(self._waiting, *letters)

    def take(self) -> str | None:
        """Take the first letter, waiting for one for a moment."""
        with self._connection() as connection:
            letter = connection.blmove(
                self._waiting, self._taken, _WAIT_FOR_A_LETTER, "LEFT", "RIGHT"
            )
        return letter if isinstance(letter, str) else None

    def settle(self, letter: str) -> None:
        """Forget a letter that was taken."""
        with self._connection() as connection:
            connection.lrem(self._taken, 1, letter)

    def put_back(self, letter: str) -> None:
        """Make a letter that was taken the first one again."""
        self._move(letter, self._waiting)

    def bury(self, letter: str) -> None:
        """Move a letter out of the way that was taken and cannot be read."""
        self._move(letter, self._buried)

    def _move(self, letter: str, to: str) -> None:
        with self._connection() as connection, connection.pipeline() as transaction:
            transaction.lpush(to, letter)
            transaction.lrem(self._taken, 1, letter)
            transaction.execute()

    @contextmanager
    def _connection(self) -> Iterator[redis.Redis]:
        """Lend the client; all ways of being away become one error."""
        try:
            yield self._redis
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise QueueUnavailableError(str(error)) from error

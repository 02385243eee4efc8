"""A queue of keys as controllers have it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    from aianalysis.model import Key

_FIRST_DELAY = 0.2
_LONGEST_DELAY = 5.0


class WorkQueue:
    """Keys that wait for work.

    A key waits at most once and is never worked on by two threads at a time: one that is added
    while it is worked on comes again afterwards.
    """

    def __init__(self) -> None:
        self._waiting: deque[Key] = deque()
        self._in_work: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: Counter[Key] = Counter()
        self._changed = threading.Condition()

    def add(self, key: Key) -> None:
        """Have *key* worked on."""
        with self._changed:
            if key in self._in_work:
                self._again.add(key)
            elif key not in self._waiting:
                self._waiting.append(key)
                self._changed.notify()

    def take(self) -> Key:
        """Wait for a key; give it back with `succeeded` or `failed`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            key = self._waiting.popleft()
            self._in_work.add(key)
            return key

    def succeeded(self, key: Key) -> None:
        """Be done with *key* until it is added again."""
        with self._changed:
            del self._failures[key]
            self._put_down(key)

    def failed(self, key: Key) -> float:
        """Have *key* worked on again, after a delay that grows; return it."""
        with self._changed:
            delay = min(_FIRST_DELAY * 2.0 ** self._failures[key], _LONGEST_DELAY)
            self._failures[key] += 1
            self._put_down(key)
        timer = threading.Timer(delay, self.add, [key])
        timer.daemon = True
        timer.start()
        return delay

    def _put_down(self, key: Key) -> None:
        self._in_work.discard(key)
        if key in self._again:
            self._again.discard(key)
            self._waiting.append(key)
            self._changed.notify()


def work(queue: WorkQueue, handle: Callable[[Key], None], log: logging.Logger) -> NoReturn:
    """Handle keys forever; whatever goes wrong is logged and tried again."""
    while True:
        key = queue.take()
        try:
            handle(key)
        except Exception as error:  # noqa: BLE001 - one object's bad luck must not stop the others
            delay = queue.failed(key)
            log.warning("%s/%s: %s; again in %.1f s", *key, error, delay)
        else:
            queue.succeeded(key)

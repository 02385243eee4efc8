"""Whose copies of services per worker each xdist worker has; in the main process.

A worker that replaces one that was killed has that one's: no copy is brought up later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.names import worker_name

if TYPE_CHECKING:
    from collections.abc import Sequence


class Workers:
    """The workers of a session, by what their copies are called."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._free: list[str] = []
        self._used: dict[str, str] = {}

    @property
    def names(self) -> Sequence[str]:
        """What the copies are called; none without xdist."""
        return tuple(self._names)

    def plan(self, number: int) -> None:
        """Have names for so many workers, none of which is started."""
        for _ in range(number):
            self._add()

    def begin(self, worker: str) -> str:
        """Return whose copies a worker has that is being started.

        Args:
            worker: Its id.
        """
        name = self._free.pop(0) if self._free else self._add()
        self._used[worker] = name
        return name

    def end(self, worker: str) -> None:
        """Take back what a worker had that has ended."""
        if name := self._used.pop(worker, ""):
            self._free.append(name)

    def _add(self) -> str:
        name = worker_name(len(self._names))
        self._names.append(name)
        return name


_WORKERS: pytest.StashKey[Workers] = pytest.StashKey()


def workers_of(config: pytest.Config) -> Workers:
    """Return the workers of the session."""
    return config.stash.setdefault(_WORKERS, Workers())

"""What tests have changed in the cluster and not undone yet.

Each change is a file of the run directory that is written before the change is made, so that
another process can undo it when the one that made it was killed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.state.locks import hold, is_locked, locked
from pytest_kindinfra.state.records import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.locks import Lock
    from pytest_kindinfra.state.records import ChangeKind


_COUNT = count()
"""A process may have several, each of which holds a lock of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentTest:
    """The test that runs in this process.

    Attributes:
        name: Its node id.
        since: When its services were there, in seconds since the epoch.
        services: Those that its marks name.
    """

    name: str
    since: float
    services: frozenset[str] = frozenset()


class Changes:
    """The changes of one run, as one of its processes sees them.

    Args:
        run: Where they are noted.
        worker: The xdist worker's name; empty without one.
    """

    def __init__(self, run: RunDirectory, worker: str = "") -> None:
        self._run = run
        self._holder = f"{worker or 'main'}.{os.getpid()}-{next(_COUNT)}"
        self._lock: Lock | None = None
        self._count = 0

    def note(self, kind: ChangeKind, *, service: str, test: str, **data: Any) -> Change:
        """Note a change that is about to be made, and return it."""
        if self._lock is None:
            self._lock = hold(self._alive(self._holder))
        self._count += 1
        change = Change(
            kind=kind,
            service=service,
            test=test,
            holder=self._holder,
            number=self._count,
            data=data,
        )
        self._write(change)
        return change

    def update(self, change: Change, **data: Any) -> None:
        """Change what is needed to undo a change."""
        change.data.update(data)
        self._write(change)

    def forget(self, change: Change) -> None:
        """Remove a change that is undone."""
        self._run.remove(Change, change.name)

    def fail(self, change: Change, text: str) -> None:
        """Note that a change cannot be undone, so that its service is not whole any more."""
        self._write(replace(change, kind="broken", data={"text": text}))

    def own(self) -> list[Change]:
        """Return the changes of this process, the last one first."""
        found = [one for one in self._all() if one.holder == self._holder]
        return [one for one in reversed(found) if one.kind != "broken"]

    def broken(self, services: Collection[str]) -> str:
        """Return why one of the services is not whole; empty if none is known to be so."""
        for one in self._all():
            if one.kind == "broken" and one.service in services:
                return str(one.data["text"])
        return ""

    def undo_of_dead(self, undo: Callable[[Change], object]) -> None:
        """Have the changes undone whose processes were killed, the last ones first.

        One process at a time does so; the others wait for it.

        Args:
            undo: Called with each change; forgets it, or notes that it cannot be undone.
        """
        if not self._of_dead():
            return
        with locked(self._run.lock_of(Change)):
            for change in reversed(self._of_dead()):
                undo(change)

    def close(self) -> None:
        """Let the other processes know that this one is over."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _of_dead(self) -> list[Change]:
        found = [one for one in self._all() if one.kind != "broken"]
        dead = {
            holder
            for holder in {one.holder for one in found} - {self._holder}
            if not is_locked(self._alive(holder))
        }
        return [one for one in found if one.holder in dead]

    def _all(self) -> list[Change]:
        return list(self._run.read_all(Change).values())

    def _alive(self, holder: str) -> Path:
        return self._run.lock_of(Change, holder)

    def _write(self, change: Change) -> None:
        self._run.write(change, change.name)

"""The states of a run's results, and a waiter's look at them.

A result is pending, then running, then ready or failed for good; the run is open, then closed.
Two locks tell who lives: `lock` is held by the run's main process until its end, `provisioning`
by the same process as long as results may still come. A result that is not settled while
`provisioning` is free never will be. Asking for a lock takes no disk space, so it can be relied
on when the disk is full. Why this cannot hang: docs/how-it-works.md.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.coordination.folder import RunFolder
from pytest_kindinfra.coordination.locks import is_held
from pytest_kindinfra.errors import CancelledError, ProvisionerDiedError, StateError
from pytest_kindinfra.timeline import monotonic, sleep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POLL = 0.015
"""Seconds between two looks for a result."""

_LIVENESS_EVERY = 0.5
_NEARLY_FULL = 1 << 20
_RUNNING = {"state": "running"}


@dataclass(frozen=True, slots=True)
class RunDirectory(RunFolder):
    """The folder that all processes of one run share, and what its results have come to."""

    # -- who may do this: the one provisioner ----------------------------------------------------

    def begin(self, name: str) -> None:
        """Say that work on a result has begun: pending becomes running.

        Raises:
            StateError: It is settled already.
        """
        self._refuse_settled(name)
        self.write(name, _RUNNING)

    def settle(self, name: str, result: dict[str, Any]) -> None:
        """Write a result, ready or failed, which then stays for the rest of the run.

        Raises:
            StateError: It is settled already.
        """
        self._refuse_settled(name)
        self.write(name, result)

    def is_settled(self, name: str) -> bool:
        """Whether a result is ready or failed."""
        return self.read(name) not in (None, _RUNNING)

    def _refuse_settled(self, name: str) -> None:
        if self.is_settled(name):
            msg = f'"{name}" of run {self.path.name} is settled already'
            raise StateError(msg)

    def close(self) -> None:
        """Say that nothing more will come: waiters give up."""
        self.write("closed", {"closed": True})

    # -- who may do this: every process of the run -----------------------------------------------

    def wait_for(self, name: str, *, meanwhile: Callable[[], object] = lambda: None) -> Any:
        """Return what is or will be written under `name`.

        Args:
            name: A result's name.
            meanwhile: Called between two looks, each `POLL` seconds.

        Raises:
            CancelledError: The run was closed first.
            ProvisionerDiedError: Nobody is left to write it.
            StateError: What is there cannot be believed.
        """
        look_for_life = monotonic() + _LIVENESS_EVERY
        files = [os.fspath(path) for path in self._files_of(name)]
        seen: tuple[int, ...] | None = None
        while True:
            there = tuple(map(_inode, files))
            if there != seen:  # a file that is replaced has another inode than the new one
                if (result := self.look(name)) is not None:
                    return result
                seen = there
            if monotonic() >= look_for_life:
                self.check_life(name)
                look_for_life, seen = monotonic() + _LIVENESS_EVERY, None
            meanwhile()
            sleep(POLL)

    def _files_of(self, name: str) -> tuple[Path, ...]:
        """Return the files that tell of a result: its own, the one set aside, the run's end."""
        return self.file(name), self._aside(name), self.file("closed")

    def _aside(self, name: str) -> Path:
        return self.path / "state" / f"{name}.aside"

    def look(self, name: str) -> Any:
        """Return a result if it is settled, None if it may still come.

        Raises:
            CancelledError: The run was closed first.
            StateError: What is there cannot be believed; it is set aside.
        """
        result = self.settled(name)
        if result is None and self.read("closed"):
            result = self.settled(name)  # perhaps written between the two looks
            if result is None:
                msg = "the run is ending"
                raise CancelledError(msg)
        return result

    def check_life(self, name: str) -> None:
        """Return if somebody may still settle `name`, or has by now.

        Raises:
            ProvisionerDiedError: Nobody is left.
        """
        if is_held(self.provisioning):
            return
        # Both may have been written since the last look, right before the lock was let go.
        if self.is_settled(name) or self.read("closed"):
            return
        if is_held(self.lock):
            raise ProvisionerDiedError(self._without_result(name))
        msg = (
            f"the process that brings the stack up ended without a result (run {self.path.name})\n"
            "To fix: look for why pytest's main process ended, then run again"
        )
        raise ProvisionerDiedError(msg)

    def _without_result(self, name: str) -> str:
        what = f'the bring-up ended without a result for "{name}" (run {self.path.name})'
        if shutil.disk_usage(self.path).free < _NEARLY_FULL:
            return f"{what}: the disk of {self.path} is full\nTo fix: free some space there"
        return f"{what}\nTo fix: see what pytest's main process printed"

    def settled(self, name: str) -> Any:
        """Return a result that is settled, None if it is not yet.

        Raises:
            StateError: What is there cannot be believed; it is set aside.
        """
        file, aside = self.file(name), self._aside(name)
        try:
            found = self.read(name)
        except StateError as error:
            with suppress(OSError):
                file.replace(aside)
            msg = f"{error}\nit was set aside as {aside.name}; To fix: run again"
            raise StateError(msg) from error
        if found is None and aside.exists():
            msg = f'the state file "{file}" was damaged and set aside\nTo fix: run again'
            raise StateError(msg)
        return None if found == _RUNNING else found


def _inode(path: str) -> int:
    """Return the number of a file, 0 if there is none: the cheapest look there is."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - asked some hundred times a second
    except OSError:
        return 0

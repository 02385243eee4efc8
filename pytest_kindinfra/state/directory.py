"""The run directory: what the processes of a run know of each other.

A file in it appears whole or not at all. The states of a result: docs/how-it-works.md.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindinfra.errors import CancelledError, ProvisionerDiedError, StateError
from pytest_kindinfra.state.codec import (
    Record,
    file_name,
    from_json,
    read_state,
    to_json,
    write_json,
    write_state,
)
from pytest_kindinfra.state.locks import is_locked
from pytest_kindinfra.state.results import RUNNING, Failed, Result, result_of, value_of
from pytest_kindinfra.system.files import DISK_FULL, own_folder
from pytest_kindinfra.system.timeline import monotonic, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.state.codec import Note
    from pytest_kindinfra.state.records import Needs


N = TypeVar("N", bound="Note")
R = TypeVar("R", bound=Result)


_RUN_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
"""A run's id, and so the name of its folder and what the link `latest` leads to."""


_RESERVE_BYTES = 256 << 10


_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`ARTIFACTS/RUN_ID`.

    Attributes:
        path: The folder; made when it is first needed.
    """

    path: Path

    @property
    def kubeconfig(self) -> Path:
        """Where the cluster's credentials are."""
        return self.path / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held by the run's main process as long as it lives."""
        return self.path / "lock"

    @property
    def provisioning(self) -> Path:
        """Locked as long as a process may still settle a result."""
        return self.path / "provisioning"

    def make(self) -> None:
        """Make the folder, for its owner only and invisible to git; point `latest` at it.

        In a folder that was there before, nothing of the user's is written over or hidden.

        Raises:
            OSError: It cannot be written.
        """
        _make_artifacts(self.path.parent)
        self.path.mkdir(mode=_PRIVATE, exist_ok=True)
        self.path.chmod(_PRIVATE)
        self.hide()
        with suppress(OSError):  # a file system without links, or another user's folder
            self._point_latest()

    def hide(self) -> None:
        """Make the folder invisible to git, whatever folder of the user's it is in."""
        _ignore_all(self.path)

    def _point_latest(self) -> None:
        """Point `latest` at the folder, unless that is a file or link of the user's."""
        latest = self.path.parent / "latest"
        if os.path.lexists(latest) and not _RUN_NAME.fullmatch(str(latest.readlink())):
            return
        fresh = self.path.parent / f".latest-{self.path.name}"
        fresh.symlink_to(self.path.name)
        fresh.replace(latest)

    def reserve(self) -> None:
        """Set some of the disk aside, so that what must be said fits when the disk is full."""
        self._reserve.parent.mkdir(exist_ok=True)
        self._reserve.write_bytes(os.urandom(_RESERVE_BYTES))  # nothing that can be compressed

    def release_reserve(self) -> bool:
        """Give the reserve back to the disk, and say whether there was one."""
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True

    @property
    def _state(self) -> Path:
        return self.path / "state"

    @property
    def _reserve(self) -> Path:
        return self._state / ".reserve"

    @property
    def kubectl_lock(self) -> Path:
        """Held by the test that changes the cluster with kubectl."""
        return self._state / "kubectl.lock"

    def lock_of(self, kind: type[Record], name: str = "") -> Path:
        """Return the lock of a record, for those that make it only once."""
        return self._state / f"{file_name(kind, name)}.lock"

    def write(self, record: Note | Result, name: str = "") -> None:
        """Let a record appear, whole or not at all; an earlier one is replaced.

        Args:
            record: The record.
            name: The service, image or the like that it is about; empty for a record of which
                there is only one.

        Raises:
            OSError: It cannot be written, even with the reserve.
        """
        self._write_value(
            self.file(type(record), name),
            value_of(record) if isinstance(record, Result) else to_json(record),
        )

    def _write_value(self, file: Path, value: Any) -> None:
        self._with_reserve(lambda: write_state(file, value))

    def write_report(self, name: str, value: Any) -> None:
        """Write a JSON file for people and their programs, such as `run.json`."""
        self._with_reserve(lambda: write_json(self.path / name, value))

    def ask(self, worker: str, needs: Needs) -> None:
        """Leave what a worker's tests need, for the controller; elsewhere if it must be so.

        A run directory that cannot be written is the controller's to say, as a usage error; an
        error in a worker would be an internal one.
        """
        try:
            _make_artifacts(self.path.parent)
            self.write(needs, worker)
        except OSError:
            own_folder(self._elsewhere.path)
            self._elsewhere.write(needs, worker)

    def asked(self, worker: str) -> Needs | None:
        """Return what `ask` left, None if the worker's tests need nothing."""
        from pytest_kindinfra.state.records import Needs

        needs = self.read(Needs, worker)
        if needs is None and os.path.lexists(self._elsewhere.path):
            own_folder(self._elsewhere.path)
            needs = self._elsewhere.read(Needs, worker)
            shutil.rmtree(self._elsewhere.path, ignore_errors=True)
        return needs

    @property
    def _elsewhere(self) -> RunFolder:
        return RunFolder(Path(tempfile.gettempdir()) / f"kindinfra-{self.path.name}")

    def read(self, kind: type[N], name: str = "") -> N | None:
        """Return a note, None if it was not written.

        Raises:
            StateError: The file is damaged or of another version.
        """
        return read_state(self.file(kind, name), lambda value: from_json(kind, value))

    def read_all(self, kind: type[N]) -> dict[str, N]:
        """Return all notes of a kind by their names.

        Raises:
            StateError: One of them cannot be believed.
        """
        found = {name: self.read(kind, name) for name in self.names(kind)}
        return {name: note for name, note in found.items() if note is not None}

    def names(self, kind: type[Record]) -> list[str]:
        """Return the names of all records of a kind, in order."""
        files = self._state.glob(f"{file_name(kind, '*')}.json")
        return sorted(path.stem.removeprefix(file_name(kind)) for path in files)

    def remove(self, kind: type[Record], name: str = "") -> None:
        """Remove a record if it is there."""
        self.file(kind, name).unlink(missing_ok=True)

    def file(self, kind: type[Record], name: str = "") -> Path:
        """Return where a record is, or would be."""
        return self._state / f"{file_name(kind, name)}.json"

    def _with_reserve(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            if error.errno not in DISK_FULL or not self.release_reserve():
                raise
            step()


def _make_artifacts(folder: Path) -> None:
    """Make the folder of all runs; one that was there may be the user's, whose files git shows."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file is in the way
        reason = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, reason, error.filename) from None
    try:
        folder.mkdir()
    except FileExistsError:
        return
    _ignore_all(folder)


def _ignore_all(folder: Path) -> None:
    with suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
        file.write("*\n")


_POLL = 0.015
"""Seconds between two looks for a result."""


_LIVENESS_EVERY = 0.5


_NEARLY_FULL = 1 << 20


@dataclass(frozen=True, slots=True)
class RunDirectory(RunFolder):
    """The folder that all processes of one run share, and what its results have come to."""

    # -- who may do this: the one provisioner ----------------------------------------------------

    def begin(self, kind: type[Result], name: str = "") -> None:
        """Say that work on a result has started: pending becomes running.

        Raises:
            StateError: It is settled already.
        """
        self._refuse_settled(kind, name)
        self._write_value(self.file(kind, name), RUNNING)

    def settle(self, result: Result, name: str = "") -> None:
        """Write a result, which then stays for the rest of the run.

        Args:
            result: What it is.
            name: The service that it is about; empty for a result of which there is only one.

        Raises:
            StateError: It is settled already.
        """
        self._refuse_settled(type(result), name)
        self.write(result, name)

    def fail(self, kind: type[Result], failure: Failed, name: str = "") -> None:
        """Settle a result that will never be ready; see `settle`."""
        self._refuse_settled(kind, name)
        self._write_value(self.file(kind, name), value_of(failure))

    def is_settled(self, kind: type[Result], name: str = "") -> bool:
        """Whether a result is ready or failed."""
        return self._result(kind, name) is not None

    def _result(self, kind: type[R], name: str) -> R | Failed | None:
        return read_state(self.file(kind, name), lambda value: result_of(kind, value))

    def _refuse_settled(self, kind: type[Result], name: str) -> None:
        if self.is_settled(kind, name):
            msg = f'"{file_name(kind, name)}" of run {self.path.name} is settled already'
            raise StateError(msg)

    def close(self) -> None:
        """Say that nothing more will come: waiters give up."""
        from pytest_kindinfra.state.records import RunClosed

        self.write(RunClosed())

    # -- who may do this: every process of the run -----------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come."""
        from pytest_kindinfra.state.records import RunClosed

        return self.read(RunClosed) is not None

    def wait_for(
        self, kind: type[R], name: str = "", *, meanwhile: Callable[[], object] = lambda: None
    ) -> R | Failed:
        """Return a result as soon as it is settled.

        Args:
            kind: What it is when it is ready.
            name: The service that it is about; empty for a result of which there is only one.
            meanwhile: Called between two looks, each `_POLL` seconds.

        Raises:
            CancelledError: The run was closed first.
            ProvisionerDiedError: No process is left to write it.
            StateError: The file is damaged or of another version.
        """
        next_check = monotonic() + _LIVENESS_EVERY
        files = [os.fspath(path) for path in self._files_of(kind, name)]
        seen: tuple[int, ...] | None = None
        while True:
            there = tuple(map(_inode, files))
            if there != seen:  # a file that is replaced has another inode than the new one
                if (result := self.look(kind, name)) is not None:
                    return result
                seen = there
            if monotonic() >= next_check:
                self.check_alive(kind, name)
                next_check, seen = monotonic() + _LIVENESS_EVERY, None
            meanwhile()
            sleep(_POLL)

    def _files_of(self, kind: type[Result], name: str) -> tuple[Path, ...]:
        """Return the files that settle a result: its own, the one set aside, the run's end."""
        from pytest_kindinfra.state.records import RunClosed

        return self.file(kind, name), self._aside(kind, name), self.file(RunClosed)

    def _aside(self, kind: type[Result], name: str) -> Path:
        return self._state / f"{file_name(kind, name)}.aside"

    def look(self, kind: type[R], name: str = "") -> R | Failed | None:
        """Return a result if it is settled, None if it may still come.

        Raises:
            CancelledError: The run was closed first.
            StateError: The file is damaged or of another version; it is set aside.
        """
        result = self.settled(kind, name)
        if result is None and self.is_closed:
            result = self.settled(kind, name)  # perhaps written between the two looks
            if result is None:
                msg = "the run is ending"
                raise CancelledError(msg)
        return result

    def check_alive(self, kind: type[Result], name: str = "") -> None:
        """Return if a process may still settle a result, or has by now.

        Raises:
            ProvisionerDiedError: No process is left.
        """
        if is_locked(self.provisioning):
            return
        # Both may have been written since the last look, right before the lock was let go.
        if self.is_settled(kind, name) or self.is_closed:
            return
        if is_locked(self.lock):
            raise ProvisionerDiedError(self._without_result(file_name(kind, name)))
        msg = (
            f"the process that brings the stack up ended without a result (run {self.path.name})\n"
            "To fix: find out why pytest's main process ended, then run again"
        )
        raise ProvisionerDiedError(msg)

    def _without_result(self, name: str) -> str:
        what = f'the bring-up ended without a result for "{name}" (run {self.path.name})'
        if shutil.disk_usage(self.path).free < _NEARLY_FULL:
            return f"{what}: the disk of {self.path} is full\nTo fix: free some space there"
        return f"{what}\nTo fix: see {self.path / 'provisioner.log'}"

    def settled(self, kind: type[R], name: str = "") -> R | Failed | None:
        """Return a result that is settled, None if it is not yet.

        Raises:
            StateError: The file is damaged or of another version; it is set aside.
        """
        file, aside = self.file(kind, name), self._aside(kind, name)
        try:
            result = self._result(kind, name)
        except StateError as error:
            with suppress(OSError):
                file.replace(aside)
            msg = f"{error}\nit was set aside as {aside.name}; To fix: run again"
            raise StateError(msg) from error
        if result is None and aside.exists() and not file.exists():
            msg = f'the state file "{file}" was damaged and set aside\nTo fix: run again'
            raise StateError(msg)
        return result

    def settled_all(self, kind: type[R]) -> dict[str, R | Failed | None]:
        """Return all results of a kind by their names; None for one that is still running.

        Raises:
            StateError: One of them cannot be believed.
        """
        return {name: self._result(kind, name) for name in self.names(kind)}


def _inode(path: str) -> int:
    """Return the number of a file, 0 if there is none: the cheapest look there is."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - asked some hundred times a second
    except OSError:
        return 0

"""The run directory: what the processes of a run know of each other.

A file in it appears whole or not at all. The states of a result: docs/how-it-works.md.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import CancelledError, ProvisionerDiedError, StateError
from pytest_kindinfra.state.locks import is_held
from pytest_kindinfra.system.files import DISK_FULL, own_folder, write_whole
from pytest_kindinfra.system.timeline import monotonic, sleep

if TYPE_CHECKING:
    from collections.abc import Callable


FORMAT = 1
"""To be raised when a later version could misread what an earlier one wrote."""


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, mode 0600, so that readers see the old file or the new one."""
    write_whole(path, json.dumps(value, indent=1))


def write_state(path: Path, value: Any) -> None:
    """Write a value for `read_state`."""
    write_json(path, {"format": FORMAT, "value": value})


def read_state(path: Path) -> Any:
    """Return what `write_state` wrote, None if nothing was.

    Raises:
        StateError: The file cannot be believed; says why.
    """
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise StateError(_unbelieved(path, f"cannot be read: {error}")) from error
    if not isinstance(found, dict) or "value" not in found:
        raise StateError(_unbelieved(path, "is none of ours"))
    if found.get("format") != FORMAT:
        why = f"has format {found.get('format')}, this version of pytest-kindinfra reads {FORMAT}"
        raise StateError(_unbelieved(path, why))
    return found["value"]


def _unbelieved(path: Path, why: str) -> str:
    return f'the state file "{path}" {why}'


_RUN_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
"""A run's id, and so the name of its folder and what a link of ours leads to."""


def new_run_id() -> str:
    """Return a name for a run that begins now: local time, and six random digits."""
    import secrets  # here: every process of pytest loads this module, and one makes an id
    from datetime import datetime

    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{secrets.token_hex(3)}"


_RESERVE_BYTES = 256 << 10


_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`ARTIFACTS/RUN_ID`.

    Attributes:
        path: The folder; made when somebody first needs it.
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
        """Held as long as somebody may still settle a result."""
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
        with suppress(OSError):  # a file system without links, or somebody else's folder
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
    def _reserve(self) -> Path:
        return self.path / "state" / ".reserve"

    def write(self, name: str, value: Any) -> None:
        """Let `value` appear under `name`, whole or not at all.

        Raises:
            OSError: It cannot be written, even with the reserve.
        """
        self._with_reserve(lambda: write_state(self.file(name), value))

    def write_report(self, name: str, value: Any) -> None:
        """Write a JSON file for people and their programs, such as `run.json`."""
        self._with_reserve(lambda: write_json(self.path / name, value))

    def ask(self, worker: str, request: Any) -> None:
        """Leave what a worker's tests need, for the controller; elsewhere if it must be so.

        A run directory that cannot be written is the controller's to say, as a usage error; an
        error in a worker would be an internal one.
        """
        try:
            _make_artifacts(self.path.parent)
            self.write(f"request-{worker}", request)
        except OSError:
            own_folder(self._elsewhere.path)
            self._elsewhere.write(f"request-{worker}", request)

    def asked(self, worker: str) -> Any:
        """Return what `ask` left, None if the worker's tests need nothing."""
        request = self.read(f"request-{worker}")
        if request is None and os.path.lexists(self._elsewhere.path):
            own_folder(self._elsewhere.path)
            request = self._elsewhere.read(f"request-{worker}")
            shutil.rmtree(self._elsewhere.path, ignore_errors=True)
        return request

    @property
    def _elsewhere(self) -> RunFolder:
        return RunFolder(Path(tempfile.gettempdir()) / f"kindinfra-{self.path.name}")

    def read(self, name: str) -> Any:
        """Return what was written under `name`, None if nothing was.

        Raises:
            StateError: What is there cannot be believed.
        """
        return read_state(self.file(name))

    def read_all(self, prefix: str) -> dict[str, Any]:
        """Return what was written under names that start with `prefix`, keyed by the rest."""
        return {name.removeprefix(prefix): self.read(name) for name in self.names(prefix)}

    def names(self, prefix: str) -> list[str]:
        """Return the names that start with `prefix` under which something was written."""
        return sorted(path.stem for path in (self.path / "state").glob(f"{prefix}*.json"))

    def file(self, name: str) -> Path:
        """Return where `write` puts what is called `name`."""
        return self.path / "state" / f"{name}.json"

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
        return f"{what}\nTo fix: see {self.path / 'provisioner.log'}"

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

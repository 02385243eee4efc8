"""What the processes of a run know of each other: one folder, one lock, results written once.

The provisioning process holds `lock` for as long as it lives; whatever it finds out becomes
a JSON file that appears complete or not at all (written aside, then renamed). Waiters read
those files; a free lock without a result means that the provisioner died. This module is the
only user of filelock and must not know pytest, xdist or what a result means.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import CancelledError, ClusterError, ProvisionerDiedError
from pytest_kindinfra.timeline import monotonic, sleep, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from filelock import BaseFileLock

    from pytest_kindinfra.timeline import Deadline

POLL = 0.015
"""Seconds between two looks for a result."""

_LIVENESS_EVERY = 0.5
_LOCK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder that all processes of one run share.

    Attributes:
        path: `ARTIFACTS/RUN_ID`; made when somebody first needs it.
    """

    path: Path

    @property
    def kubeconfig(self) -> Path:
        """Where the cluster's credentials are."""
        return self.path / "kubeconfig"

    @property
    def lock(self) -> Path:
        """Held by the provisioning process as long as it lives."""
        return self.path / "lock"

    def make(self) -> None:
        """Make the folder, invisible to git, and point `latest` at it."""
        self.path.mkdir(parents=True, exist_ok=True)
        ignore = self.path.parent / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        latest = self.path.parent / "latest"
        with suppress(OSError):  # a file system without links, or somebody else's folder
            fresh = self.path.parent / f".latest-{self.path.name}"
            fresh.symlink_to(self.path.name)
            fresh.replace(latest)

    def write(self, name: str, value: Any) -> None:
        """Let `value` appear under `name`, whole or not at all."""
        write_json(self.path / "state" / f"{name}.json", value)

    def read(self, name: str) -> Any:
        """Return what was written under `name`, None if nothing was."""
        with suppress(FileNotFoundError):
            return json.loads((self.path / "state" / f"{name}.json").read_text())
        return None

    def read_all(self, prefix: str) -> dict[str, Any]:
        """Return what was written under names that start with `prefix`, keyed by the rest."""
        paths = sorted((self.path / "state").glob(f"{prefix}*.json"))
        return {path.stem.removeprefix(prefix): json.loads(path.read_text()) for path in paths}

    def close(self) -> None:
        """Say that nothing more will come: waiters give up."""
        self.write("closed", {"closed": True})

    def wait_for(self, name: str, *, meanwhile: Callable[[], object] = lambda: None) -> Any:
        """Return what is or will be written under `name`.

        Args:
            name: A result's name.
            meanwhile: Called between two looks, each `POLL` seconds.

        Raises:
            CancelledError: The run was closed first.
            ProvisionerDiedError: Nobody is left to write it.
        """
        look_for_life = monotonic() + _LIVENESS_EVERY
        while (result := self.read(name)) is None:
            if self.read("closed"):
                msg = "the run is ending"
                raise CancelledError(msg)
            if monotonic() >= look_for_life:
                self._check_life(name)
                look_for_life = monotonic() + _LIVENESS_EVERY
            meanwhile()
            sleep(POLL)
        return result

    def _check_life(self, name: str) -> None:
        # Both may have been written since the last look, right before the lock was let go.
        if is_held(self.lock) or self.read(name) is not None or self.read("closed"):
            return
        msg = (
            f"the process that brings the stack up ended without a result (run {self.path.name})\n"
            "To fix: look for why pytest's main process ended, then run again"
        )
        raise ProvisionerDiedError(msg)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON so that readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(value, file, indent=1)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def hold(path: Path) -> BaseFileLock:
    """Take the lock at `path` at once and return it; release it to let go.

    Raises:
        filelock.Timeout: Another process holds it.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    lock.acquire(timeout=0)
    return lock


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at `path`."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    try:
        with FileLock(path).acquire(timeout=0):
            return False
    except Timeout:
        return True


@contextmanager
def locked(path: Path, deadline: Deadline | None = None) -> Iterator[None]:
    """Run the block while no other process on this host runs one under the same path.

    Args:
        path: The lock's file.
        deadline: When to give up waiting; None waits for as long as it takes.

    Raises:
        ClusterError: Another process held it until the deadline.
        CancelledError: The run is ending.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, mode=0o666)
    if deadline is None:
        lock.acquire()
    elif not wait_until(lambda: _taken(lock), deadline, every=_LOCK_EVERY):
        msg = f"another run holds {path} and does not let go of it"
        raise ClusterError(msg)
    try:
        yield
    finally:
        lock.release()


def _taken(lock: BaseFileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def host_lock(name: str) -> Path:
    """Return the path of a lock shared by all users of this host."""
    return Path(tempfile.gettempdir()) / f"kindinfra-{name}.lock"

"""Locks on files: who lives, and who goes first. The only user of filelock, and of flock(2)."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from filelock import BaseFileLock

_LOCK_EVERY = 0.05
_PROBED_FOR = 1.0
"""Seconds to wait for a lock in any case: whoever asks whether it is free holds it for a moment."""


def hold(path: Path) -> BaseFileLock:
    """Take the lock at `path` at once and return it; release it to let go.

    Raises:
        filelock.Timeout: Another process holds it.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    lock.acquire(timeout=_PROBED_FOR, poll_interval=_LOCK_EVERY)
    return lock


def hold_within(
    path: Path, deadline: Deadline, *, waiting: Callable[[], object]
) -> BaseFileLock | None:
    """Take the lock at `path` and return it; None if another process held it until the deadline.

    Args:
        path: The lock's file.
        deadline: When to give up.
        waiting: Called once, if somebody else has it.

    Raises:
        CancelledError: The run is ending.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    if wait_until(lambda: _taken(lock), deadline.within(_PROBED_FOR), every=_LOCK_EVERY):
        return lock
    waiting()
    return lock if wait_until(lambda: _taken(lock), deadline, every=_LOCK_EVERY) else None


@contextmanager
def held_alone(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` in the block, and say whether that was possible.

    Not at once, but as soon as those who only ask whether it is free have had their answer.
    """
    from filelock import FileLock

    lock, soon = FileLock(path, thread_local=False), Deadline.after(_PROBED_FOR)
    try:
        yield bool(wait_until(lambda: _taken(lock), soon, every=_LOCK_EVERY))
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether some process holds the lock at `path`; one that we may not ask counts as held.

    Asked by a shared lock, as flock(2) has it: filelock's own is exclusive, and of several waiters
    who ask at once each would take the others for the holder.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(file)
    return False


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
    """Return the path of a lock shared by all users of this host.

    Its folder is open to everybody and not sticky: in /tmp itself one user's lock file cannot be
    opened by another (Linux, fs.protected_regular), and filelock refuses it.
    """
    folder = Path(tempfile.gettempdir()) / "kindinfra"
    if not folder.is_dir():
        fresh = Path(tempfile.mkdtemp(prefix=".kindinfra-"))
        fresh.chmod(0o777)  # whoever may use the engine is the equal of root anyway
        try:
            fresh.rename(folder)  # at once open to all; fails if another made it meanwhile
        except OSError:
            with suppress(OSError):
                os.rmdir(fresh)  # noqa: PTH106 - as the comment above
    return folder / f"{name}.lock"

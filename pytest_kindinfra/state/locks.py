"""Locks on files: who lives, and who goes first. The only user of filelock, and of flock(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_kindinfra.system.files import own_folder
from pytest_kindinfra.system.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from filelock import BaseFileLock


_LOCK_EVERY = 0.05


_SHARED = 0o1777


_READABLE = 0o444


_PROBED_FOR = 1.0
"""Seconds to wait for a lock in any case: a check whether it is free has it for a moment."""


class Lock(Protocol):
    """A lock that this process holds."""

    def release(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - filelock's signature
        """Let go of it."""
        ...


def hold(path: Path) -> Lock:
    """Take the lock at `path` at once and return it; release it to let go.

    Raises:
        filelock.Timeout: Another process holds it.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    lock.acquire(timeout=_PROBED_FOR, poll_interval=_LOCK_EVERY)
    return lock


class SharedLock:
    """A lock that several processes hold together, each by a copy of one open file.

    It is free when the last of them has ended or let go of it: flock(2) belongs to the open file,
    not to a process.

    Args:
        file: The locked file's descriptor, such as one that another process passed on.
    """

    def __init__(self, file: int) -> None:
        self._file = file

    def copy(self) -> int:
        """Return a descriptor with which another process can hold the lock too."""
        return os.dup(self._file)

    def leave(self) -> None:
        """Let go of it here; the other processes hold it."""
        os.close(self._file)

    def release(self, force: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - `Lock.release`
        """Free it in all processes: one that a test forked off may have a copy."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)


def hold_shared(path: Path) -> SharedLock:
    """Take the lock at `path` at once, for this process and those that it will pass it on to.

    Raises:
        TimeoutError: Another process holds it.
        OSError: The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if wait_until(lambda: _flocked(file), Deadline.after(_PROBED_FOR), every=_LOCK_EVERY):
        return SharedLock(file)
    os.close(file)
    msg = f"another process holds {path}"
    raise TimeoutError(msg)


def hold_within(path: Path, deadline: Deadline, *, waiting: Callable[[], object]) -> Lock | None:
    """Take the lock at `path` and return it; None if another process held it until the deadline.

    Args:
        path: The lock's file.
        deadline: When to give up.
        waiting: Called once, if another process has it.

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
def locked_alone(path: Path) -> Iterator[bool]:
    """Hold the lock at `path` in the block, and say whether that was possible.

    Not at once, but as soon as those who only ask whether it is free have had their answer.
    """
    from filelock import FileLock

    lock, soon = FileLock(path, thread_local=False), Deadline.after(_PROBED_FOR)
    try:
        yield bool(wait_until(lambda: _taken(lock), soon, every=_LOCK_EVERY))
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
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
def locked(path: Path) -> Iterator[None]:
    """Run the block while no other process runs one under the same path; waits as long as needed.

    Args:
        path: The lock's file, in a folder that only this user can write.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def _taken(lock: BaseFileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


@contextmanager
def locked_for_all_users(
    name: str, deadline: Deadline, *, say: Callable[[str], object], option: str = ""
) -> Iterator[bool]:
    """Run the block while no other process of this host, of whatever user, runs one of that name.

    Every user can reach the lock's folder, so any of them can keep the lock forever or put
    something else in its place. The lock is therefore advisory: the block always runs, and is
    told whether it runs alone. Where the lock of all users cannot be used, one is taken that only
    processes of this user can reach.

    Args:
        name: What is serialised: `create`.
        deadline: When to stop waiting; one of this user is waited for just as long.
        say: Gets a sentence about a wait, and about a lock that cannot be used.
        option: Sets the deadline's seconds, for the sentence.

    Yields:
        Whether the block has a lock.

    Raises:
        CancelledError: The run is ending.
    """
    within = f"{deadline.left:.0f} s{f' ({option})' if option else ''}"
    file = _host_lock(name, deadline, _Words(say, within))
    try:
        yield file is not None
    finally:
        if file is not None:
            file.close()


@dataclass(frozen=True, slots=True)
class _Words:
    """The messages about a lock that is not free at once."""

    say: Callable[[str], object]
    within: str

    def waiting(self, path: Path) -> None:
        self.say(f"waiting for another process that holds {path}, {self.within} at most")

    def in_vain(self, path: Path) -> None:
        self.say(
            f"another process still holds {path} after {self.within}; going on without it\n"
            f"To fix: find that process with `fuser -v {path}` and end it"
        )

    def unusable(self, path: Path, error: OSError) -> None:
        self.say(
            f"the lock {path} cannot be used: {error.strerror}; going on without waiting for"
            f" other users\nTo fix: as the owner or as root, rm -r {path.parent}"
        )


def _host_lock(name: str, deadline: Deadline, words: _Words) -> FileIO | None:
    """Return the locked file: that of all users, else that of this user; None if neither works."""
    temporary, seconds = Path(tempfile.gettempdir()), deadline.left
    for folder, make in (
        (temporary / "kindinfra", _make_shared_folder),
        (temporary / f"kindinfra-{os.geteuid()}", own_folder),
    ):
        path = folder / f"{name}.lock"
        try:
            make(folder)
            within = Deadline.after(seconds, deadline.cancelled)
            if file := _locked_within(path, within, words):
                return file
        except OSError as error:
            words.unusable(path, error)
    return None


def _locked_within(path: Path, deadline: Deadline, words: _Words) -> FileIO | None:
    """Return the locked file, or None if another process held it until the deadline."""
    soon = deadline.within(_PROBED_FOR)

    def attempt() -> FileIO | None:
        try:
            return _try_lock(path)
        except PermissionError:  # another process has made the file, but not opened it to all yet
            if soon.passed:
                raise
            return None

    if file := wait_until(attempt, soon, every=_LOCK_EVERY):
        return file
    words.waiting(path)
    if not (file := wait_until(attempt, deadline, every=_LOCK_EVERY)):
        words.in_vain(path)
    return file


def _try_lock(path: Path) -> FileIO | None:
    """Return the locked file; None if another process holds it.

    Opened for reading only and without following a link: flock(2) needs no more, and no user can
    make us write to a file of their choice.

    Raises:
        OSError: There is something else in the place of the folder or the file.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        file = FileIO(_open_or_make(folder, path.name))
        try:
            if _is_regular(os.fstat(file.fileno())) and _flocked(file):
                # After a wait it may be the lock of a file that was removed meanwhile.
                there = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
                if os.path.samestat(there, os.fstat(file.fileno())):
                    return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()
        return None
    finally:
        os.close(folder)


def _open_or_make(folder: int, name: str) -> int:
    """Return a descriptor for reading of a file in a folder; it is made, readable by everybody."""
    # O_NONBLOCK: opening a FIFO that another user put there would wait for a writer.
    reading = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(FileNotFoundError):
        return os.open(name, reading, dir_fd=folder)
    try:
        file = os.open(name, reading | os.O_CREAT | os.O_EXCL, _READABLE, dir_fd=folder)
    except FileExistsError:
        return os.open(name, reading, dir_fd=folder)
    os.fchmod(file, _READABLE)  # whatever the umask says
    return file


def _is_regular(found: os.stat_result) -> bool:
    """Return True for a plain file that has no other name.

    Raises:
        OSError: It is something else.
    """
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if found.st_nlink > 1:  # a lock that we would take on another file of a user's
        raise OSError(errno.EMLINK, "it is a hard link to another file")
    return True


def _flocked(file: FileIO | int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _make_shared_folder(folder: Path) -> None:
    """Make a folder in which everybody can make files, and remove only their own."""
    if not os.path.lexists(folder):
        fresh = Path(tempfile.mkdtemp(prefix=".kindinfra-", dir=folder.parent))
        fresh.chmod(_SHARED)
        try:
            fresh.rename(folder)  # at once open to all; fails if another made it meanwhile
        except OSError:
            with suppress(OSError):
                os.rmdir(fresh)  # noqa: PTH106 - as the comment above
    found = folder.lstat()
    if found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode):
        _share(folder)


def _share(folder: Path) -> None:
    """Give a folder of this user its mode, which an earlier version made without the sticky bit."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if stat.S_IMODE(os.fstat(file).st_mode) != _SHARED:
            os.fchmod(file, _SHARED)
    finally:
        os.close(file)

"""A lock that two processes hold together is free when both have ended, and not before."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.state.locks import SharedLock, hold_shared, is_locked
from tests.fakes import eventually

if TYPE_CHECKING:
    from pathlib import Path

WAITS = "import sys; sys.stdin.read()"


def other_process(lock: SharedLock) -> subprocess.Popen[bytes]:
    """Start a process that holds the lock too, until its input ends."""
    file = lock.copy()
    try:
        return subprocess.Popen(
            [sys.executable, "-c", WAITS], stdin=subprocess.PIPE, pass_fds=[file]
        )
    finally:
        os.close(file)


def test_it_is_held_until_the_last_of_two_processes_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    lock = hold_shared(path)
    with other_process(lock) as other:
        lock.leave()

        assert is_locked(path)
        with pytest.raises(TimeoutError, match=f"^another process holds {path}$"):
            hold_shared(path)
        assert other.stdin
        other.stdin.close()
    assert eventually(lambda: not is_locked(path))


def test_it_is_held_after_the_other_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = hold_shared(path)
    with other_process(lock) as other:
        other.kill()

    assert is_locked(path)
    lock.release()
    assert not is_locked(path)


def test_whoever_knows_that_all_is_over_frees_it_for_all(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = hold_shared(path)
    with other_process(lock) as forked_off:
        lock.release()

        assert not is_locked(path)
        assert forked_off.stdin
        forked_off.stdin.close()

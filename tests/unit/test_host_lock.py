"""The lock that all users of a host share, in a folder where any of them may put anything."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import is_locked, locked_for_all_users
from pytest_kindinfra.state.records import Needs
from pytest_kindinfra.system.timeline import Deadline, monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a temporary folder like /tmp, which other users can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o711)
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def shared(temporary: Path) -> Path:
    """Return the folder of the lock, which is not there yet."""
    return temporary / "kindinfra"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("precious")
    file.chmod(0o600)
    return file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def take(deadline: Deadline | None = None) -> tuple[bool, list[str]]:
    """Return whether the lock was held in the block, and what was said."""
    said: list[str] = []
    within = deadline or Deadline.after(1.2)
    with locked_for_all_users("create", within, say=said.append, option="--an-option") as alone:
        return alone, said


def in_child(act: Callable[[], None], *, user: int | None = None) -> int:
    """Run `act` in a forked process, of another user if wanted; return its exit code."""
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        code = 1
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            act()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def held(path: Path) -> Iterator[None]:
    file = os.open(path, os.O_RDONLY)
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(file)


def test_nothing_of_it_can_be_written_or_removed_by_others(shared: Path) -> None:
    """A folder that everybody could change let one user redirect the lock of the next one."""
    old = os.umask(0o077)
    try:
        assert take() == (True, [])
    finally:
        os.umask(old)

    assert mode_of(shared) == 0o1777
    assert mode_of(shared / "create.lock") == 0o444


def test_taking_it_again_leaves_nothing_else(temporary: Path) -> None:
    take()
    take()

    assert [path.name for path in temporary.iterdir()] == ["kindinfra"]


def test_the_folder_of_an_earlier_version_becomes_sticky(shared: Path) -> None:
    shared.mkdir()
    shared.chmod(0o777)

    assert take() == (True, [])
    assert mode_of(shared) == 0o1777


def test_threads_and_processes_run_one_at_a_time(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(5):
            with locked_for_all_users("create", Deadline.after(30), say=print) as alone:
                assert alone
                before = int(counter.read_text())
                threading.Event().wait(0.01)
                counter.write_text(str(before + 1))

    threads = [threading.Thread(target=count) for _ in range(2)]
    child = threading.Thread(target=lambda: in_child(count))
    for thread in (child, *threads):
        thread.start()
    for thread in (child, *threads):
        thread.join()

    assert counter.read_text() == "15"


def test_it_is_free_after_a_block_that_raised() -> None:
    with (
        pytest.raises(LookupError),
        locked_for_all_users("create", Deadline.after(1), say=pytest.fail),
    ):
        raise LookupError

    assert take() == (True, [])


def test_a_link_in_the_place_of_the_lock_is_not_followed(shared: Path, victim: Path) -> None:
    """It truncated the file that the link led to, and let everybody write to it."""
    shared.mkdir()
    (shared / "create.lock").symlink_to(victim)

    alone, said = take()

    assert alone  # by a lock of this user
    assert said[0].startswith(f"the lock {shared}/create.lock cannot be used: ")
    assert said[0].endswith(f"To fix: as the owner or as root, rm -r {shared}")
    assert (victim.read_text(), mode_of(victim)) == ("precious", 0o600)


def test_a_link_to_nothing_makes_no_file(shared: Path, tmp_path: Path) -> None:
    shared.mkdir()
    (shared / "create.lock").symlink_to(tmp_path / "fresh")

    assert take()[0]
    assert not (tmp_path / "fresh").exists()


def test_a_link_in_the_place_of_the_folder_is_not_followed(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir(mode=0o700)
    shared.symlink_to(tmp_path / "etc")

    assert take()[0]
    assert list((tmp_path / "etc").iterdir()) == []
    assert mode_of(tmp_path / "etc") == 0o700


@pytest.mark.parametrize("what", ["file", "fifo", "folder", "hard link"])
def test_something_else_in_the_place_of_the_lock_stops_nobody(
    shared: Path, victim: Path, what: str
) -> None:
    shared.mkdir()
    lock = shared / "create.lock"
    if what == "fifo":
        os.mkfifo(lock)  # opening it would wait for a writer
    elif what == "folder":
        lock.mkdir()
    elif what == "hard link":
        lock.hardlink_to(victim)
    else:
        shared.rmdir()
        shared.touch()

    alone, (said,) = take()

    assert alone
    assert "cannot be used" in said
    assert victim.read_text() == "precious"


def test_the_lock_of_this_user_keeps_its_own_runs_apart(temporary: Path, shared: Path) -> None:
    shared.touch()
    take()

    own = temporary / f"kindinfra-{os.geteuid()}"
    assert mode_of(own) == 0o700
    with held(own / "create.lock"):
        assert not take()[0]


def test_a_holder_that_never_lets_go_is_waited_for_only_so_long(shared: Path) -> None:
    """It failed every run of everybody, for as long as the holder lived."""
    take()
    began = monotonic()
    with held(shared / "create.lock"):
        alone, said = take()

    assert alone
    assert 1.0 < monotonic() - began < 5
    lock = f"{shared}/create.lock"
    assert said == [
        f"waiting for another process that holds {lock}, 1 s (--an-option) at most",
        (
            f"another process still holds {lock} after 1 s (--an-option); going on without it\n"
            f"To fix: find that process with `fuser -v {lock}` and end it"
        ),
    ]


def test_waiting_ends_when_the_run_does(shared: Path) -> None:
    """Ctrl-C while another run created its cluster was answered only after that."""
    take()
    deadline = Deadline.after(60)
    deadline.cancelled.set()

    with held(shared / "create.lock"), pytest.raises(CancelledError):
        take(deadline)


def test_the_lock_of_a_file_that_was_removed_is_not_taken_for_the_lock(shared: Path) -> None:
    take()
    lock = shared / "create.lock"

    def replace(_: str) -> None:
        lock.unlink()

    with (
        held(lock),
        locked_for_all_users("create", Deadline.after(20), say=replace) as alone,
    ):
        assert alone
        assert is_locked(lock)  # the new one


@as_root
def test_two_users_keep_each_other_out(shared: Path) -> None:
    def of_nobody() -> None:
        assert take(Deadline.after(20)) == (True, [])
        assert (shared / "create.lock").stat().st_uid == NOBODY

    def finds_it_held() -> None:
        alone, said = take()
        assert alone
        assert said[0].startswith("waiting for another process")

    assert in_child(of_nobody, user=NOBODY) == 0
    assert take() == (True, [])
    with locked_for_all_users("create", Deadline.after(1), say=pytest.fail):
        assert in_child(finds_it_held, user=NOBODY) == 0


@as_root
def test_no_other_user_can_remove_or_change_it(shared: Path) -> None:
    take()

    def tries() -> None:
        for act in (
            (shared / "create.lock").unlink,
            lambda: (shared / "create.lock").rename(shared / "aside"),
            lambda: os.close(os.open(shared / "create.lock", os.O_RDWR)),
        ):
            with pytest.raises(PermissionError):
                act()

    assert in_child(tries, user=NOBODY) == 0


@as_root
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_a_folder_of_another_user_stops_nobody(shared: Path, victim: Path, mode: int) -> None:
    """One user's link in the folder truncated any file of the next run's user."""

    def prepares() -> None:
        shared.mkdir()
        shared.chmod(mode)
        (shared / "create.lock").symlink_to(victim)

    assert in_child(prepares, user=NOBODY) == 0

    assert take()[0]
    assert (victim.read_text(), mode_of(victim)) == ("precious", 0o600)
    assert mode_of(shared) == mode  # not ours to change


@as_root
def test_where_others_took_every_place_a_run_goes_on_without_a_lock(
    temporary: Path, shared: Path
) -> None:
    def prepares() -> None:
        shared.symlink_to("/etc")
        (temporary / "kindinfra-0").mkdir(mode=0o777)

    assert in_child(prepares, user=NOBODY) == 0

    alone, said = take()

    assert not alone
    assert [line.partition(":")[0] for line in said] == [
        f"the lock {shared}/create.lock cannot be used",
        f"the lock {temporary}/kindinfra-0/create.lock cannot be used",
    ]
    assert "it is not a folder of this user" in said[1]


@as_root
def test_the_request_of_a_worker_is_not_read_from_a_folder_of_another_user(
    temporary: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    run = RunDirectory(tmp_path / "file" / "run-1")  # below a file nothing can be made

    def prepares() -> None:
        RunDirectory(temporary / "kindinfra-run-1").write(Needs(services={}, tests=7), "gw0")

    assert in_child(prepares, user=NOBODY) == 0

    with pytest.raises(PermissionError, match="not a folder of this user"):
        run.asked("gw0")
    with pytest.raises(PermissionError, match="not a folder of this user"):
        run.ask("gw0", Needs(services={}, tests=3))


@as_root
def test_a_lock_that_may_not_be_read_stops_nobody(shared: Path) -> None:
    def prepares() -> None:
        shared.mkdir()
        shared.chmod(0o1777)
        (shared / "create.lock").touch(mode=0o600)

    def takes() -> None:
        alone, said = take()
        assert alone
        assert "Permission denied" in said[0]

    assert in_child(prepares, user=NOBODY) == 0
    assert in_child(takes, user=NOBODY - 1) == 0

"""What processes know of each other, tried with real processes."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import Timeout

from pytest_kindinfra.errors import CancelledError, ProvisionerDiedError
from pytest_kindinfra.state.clusterrecords import ClusterNamed
from pytest_kindinfra.state.codec import write_json
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold, is_locked, locked, locked_alone
from pytest_kindinfra.state.records import ClusterReady, ImageLoaded, Needs, OnceDone, ServiceReady
from pytest_kindinfra.system.files import write_whole
from pytest_kindinfra.system.timeline import monotonic
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.state.results import Result

NOTHING = Needs(services={}, tests=1)
READY = ServiceReady(endpoints=())


def cluster(name: str) -> ClusterReady:
    return ClusterReady(name=name, kubeconfig=Path("k"), namespace="default")


PRELUDE = """
import sys
from pathlib import Path
from pytest_kindinfra.state.codec import write_json
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold, locked_alone, is_locked, locked
from pytest_kindinfra.state.records import OnceDone
from pytest_kindinfra.state.directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
"""


@contextmanager
def process(script: str, run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """Run Python in another process, until the block ends at the latest."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def says(started: subprocess.Popen[str]) -> str:
    assert started.stdout
    return started.stdout.readline().strip()


@contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    lock, provisioning = hold(run.lock), hold(run.provisioning)
    try:
        yield
    finally:
        provisioning.release()
        lock.release()


class TestTheFolder:
    def test_git_does_not_see_it(self, run: RunDirectory) -> None:
        run.make()

        assert (run.path.parent / ".gitignore").read_text() == "*\n"

    def test_what_the_user_says_to_git_stays(self, run: RunDirectory) -> None:
        run.path.parent.mkdir(parents=True)
        (run.path.parent / ".gitignore").write_text("logs\n")

        run.make()

        assert (run.path.parent / ".gitignore").read_text() == "logs\n"

    @pytest.mark.parametrize("begun_by", ["the controller", "a worker"])
    def test_in_a_folder_of_the_users_nothing_is_hidden_or_replaced(
        self, run: RunDirectory, begun_by: str
    ) -> None:
        """With `--kindinfra-artifacts=.` git ignored the whole project from then on."""
        artifacts = run.path.parent
        artifacts.mkdir(parents=True)
        (artifacts / "latest").write_text("report of last week")

        if begun_by == "a worker":
            run.ask("gw0", NOTHING)
        run.make()

        assert not (artifacts / ".gitignore").exists()
        assert (artifacts / "latest").read_text() == "report of last week"
        assert (run.path / ".gitignore").read_text() == "*\n"
        assert sorted(path.name for path in artifacts.iterdir()) == ["latest", run.path.name]

    def test_a_folder_that_a_worker_makes_first_is_hidden_too(self, run: RunDirectory) -> None:
        run.ask("gw0", NOTHING)

        assert (run.path.parent / ".gitignore").read_text() == "*\n"

    def test_a_link_of_the_users_stays(self, run: RunDirectory) -> None:
        run.path.parent.mkdir(parents=True)
        (run.path.parent / "latest").symlink_to("2024-11")

        run.make()

        assert str((run.path.parent / "latest").readlink()) == "2024-11"

    def test_latest_leads_to_the_latest_run(self, run: RunDirectory) -> None:
        names = ("20261128-140502-3f2a91", "20261128-150502-91f2a3")
        for name in names:
            RunDirectory(run.path.parent / name).make()

        latest = run.path.parent / "latest"
        assert latest.resolve() == run.path.parent / names[1]
        assert str(latest.readlink()) == names[1]
        assert sorted(path.name for path in run.path.parent.iterdir()) == [
            ".gitignore",
            *names,
            "latest",
        ]

    def test_it_may_be_made_twice(self, run: RunDirectory) -> None:
        run.make()
        run.make()

        assert run.path.is_dir()

    def test_what_somebody_else_calls_latest_stays(self, run: RunDirectory) -> None:
        (run.path.parent / "latest").mkdir(parents=True)
        (run.path.parent / "latest" / "thesis").touch()

        run.make()

        assert (run.path.parent / "latest" / "thesis").exists()


class TestResults:
    @pytest.mark.parametrize("name", ["web", "my.svc", "a-b", "ä"])
    def test_what_was_written_is_read(self, name: str, run: RunDirectory) -> None:
        value = {"numbers": [1, 2.5, None]}
        run.write(OnceDone(key="k", value=value), name)

        assert run.read(OnceDone, name) == OnceDone(key="k", value=value)

    def test_a_note_that_was_not_written_is_none(self, run: RunDirectory) -> None:
        assert run.read(ClusterNamed) is None
        assert run.read_all(ImageLoaded) == {}

    def test_the_last_writing_counts(self, run: RunDirectory) -> None:
        run.write(ClusterNamed(name="a"))
        run.write(ClusterNamed(name="b"))

        assert run.read(ClusterNamed) == ClusterNamed(name="b")

    def test_all_of_a_kind_come_by_their_names(self, run: RunDirectory) -> None:
        for name in ("b", "a.b"):
            run.write(ImageLoaded(reference=f"r-{name}"), name)
        run.write(OnceDone(key="a"), "a")
        run.settle(READY, "a")

        assert run.read_all(ImageLoaded) == {
            "a.b": ImageLoaded(reference="r-a.b"),
            "b": ImageLoaded(reference="r-b"),
        }
        assert run.names(ImageLoaded) == ["a.b", "b"]

    def test_what_is_removed_is_gone(self, run: RunDirectory) -> None:
        run.write(ClusterNamed(name="a"))

        for _ in range(2):
            run.remove(ClusterNamed)
            assert run.read(ClusterNamed) is None

    def test_what_json_cannot_hold_leaves_nothing_behind(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError):
            write_json(tmp_path / "x.json", {"no": object()})

        assert list(tmp_path.iterdir()) == []

    def test_what_json_cannot_hold_leaves_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "x.json"
        write_json(path, 1)

        with pytest.raises(TypeError):
            write_json(path, object())

        assert json.loads(path.read_text()) == 1

    @pytest.mark.parametrize(("mode", "found"), [(0o600, 0o600), (0o666, 0o640)])
    def test_a_whole_file_has_the_mode_that_is_asked_for_less_the_umask(
        self, tmp_path: Path, mode: int, found: int
    ) -> None:
        before = os.umask(0o027)
        try:
            write_whole(tmp_path / "new" / "x", "text", mode=mode)
        finally:
            os.umask(before)

        assert (tmp_path / "new" / "x").stat().st_mode & 0o777 == found

    def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "x" / "full").mkdir(parents=True)

        with pytest.raises(OSError, match="x"):
            write_whole(tmp_path / "x", "text")

        assert [path.name for path in tmp_path.iterdir()] == ["x"]

    def test_no_reader_ever_sees_half_a_result(self, run: RunDirectory) -> None:
        script = """
for number in range(60):
    run.write(OnceDone(key="big", value=[number] * 3000), "big")
"""
        seen: set[int] = set()
        with process(script, run) as writer:
            while writer.poll() is None:
                if done := run.read(OnceDone, "big"):
                    assert done.value == [done.value[0]] * 3000
                    seen.add(done.value[0])
            assert writer.returncode == 0

        assert len(seen) > 5


class TestWaiting:
    def test_a_result_that_is_there_comes_at_once(self, run: RunDirectory) -> None:
        run.write(cluster("a"))
        asked: list[int] = []

        assert run.wait_for(ClusterReady, meanwhile=lambda: asked.append(1)) == cluster("a")
        assert asked == []

    def test_a_result_comes_right_after_it_was_written(self, run: RunDirectory) -> None:
        """The best of three tries, since other work may hold any one of them up."""
        delays = []
        with held(run):
            for number in range(3):
                written: list[float] = []

                def write(name: str = f"r{number}", written: list[float] = written) -> None:
                    run.write(READY, name)
                    written.append(monotonic())

                writer = threading.Timer(0.03, write)
                writer.start()
                run.wait_for(ServiceReady, f"r{number}")
                delays.append(monotonic() - written[0] if written else 0.0)
                writer.join()

        assert min(delays) < 0.025

    def test_other_work_goes_on_meanwhile(self, run: RunDirectory) -> None:
        def meanwhile() -> None:
            run.write(cluster("written between two looks"))

        assert run.wait_for(ClusterReady, meanwhile=meanwhile) == cluster(
            "written between two looks"
        )

    def test_a_run_that_ends_ends_the_waiting(self, run: RunDirectory) -> None:
        with held(run), pytest.raises(CancelledError, match="the run is ending"):
            run.wait_for(ClusterReady, meanwhile=run.close)

    def test_a_result_counts_though_the_run_has_ended(self, run: RunDirectory) -> None:
        run.write(cluster("a"))
        run.close()

        assert run.wait_for(ClusterReady) == cluster("a")

    def test_a_provisioner_that_died_is_noticed_within_a_second(self, run: RunDirectory) -> None:
        script = """
lock = hold(run.provisioning)
print("holding", flush=True)
sys.stdin.read()
"""
        with process(script, run) as provisioner:
            assert says(provisioner) == "holding"
            assert is_locked(run.provisioning)
            provisioner.kill()
            provisioner.wait()
            start = monotonic()

            with pytest.raises(ProvisionerDiedError) as caught:
                run.wait_for(ClusterReady)

        assert monotonic() - start < 1
        assert str(caught.value) == (
            "the process that brings the stack up ended without a result (run run-1)\n"
            "To fix: find out why pytest's main process ended, then run again"
        )

    def test_waiting_goes_on_as_long_as_the_provisioner_lives(self, run: RunDirectory) -> None:
        """Longer than it takes to notice a dead one."""
        start, looks = monotonic(), list[int]()

        def meanwhile() -> None:
            looks.append(1)
            if monotonic() - start > 0.7:
                run.write(cluster("slow"))

        with held(run):
            assert run.wait_for(ClusterReady, meanwhile=meanwhile) == cluster("slow")

        assert len(looks) > 5

    def test_a_result_written_just_before_the_provisioner_ended_counts(
        self, run: RunDirectory
    ) -> None:
        class WrittenBetweenTwoLooks(RunDirectory):
            """Its result appears after the waiter looked, and nobody holds the lock."""

            def check_alive(self, kind: type[Result], name: str = "") -> None:
                self.write(cluster("just in time"))
                super().check_alive(kind, name)

        assert WrittenBetweenTwoLooks(run.path).wait_for(ClusterReady) == cluster("just in time")

    def test_a_run_closed_just_before_it_let_go_of_its_lock_did_not_die(
        self, run: RunDirectory
    ) -> None:
        """A waiter was told that pytest's main process had ended, when it was Ctrl-C."""

        class ClosedBetweenTwoLooks(RunDirectory):
            def check_alive(self, kind: type[Result], name: str = "") -> None:
                self.close()
                super().check_alive(kind, name)

        with pytest.raises(CancelledError):
            ClosedBetweenTwoLooks(run.path).wait_for(ClusterReady)


class TestLocks:
    def test_a_lock_that_was_never_acquired_is_free(self, run: RunDirectory) -> None:
        assert not is_locked(run.lock)
        assert not run.path.exists()

    def test_a_lock_is_held_until_it_is_released(self, run: RunDirectory) -> None:
        with held(run):
            assert is_locked(run.lock)

        assert not is_locked(run.lock)

    def test_looking_at_a_lock_does_not_take_it(self, run: RunDirectory) -> None:
        with held(run):
            assert all(is_locked(run.lock) for _ in range(3))

    def test_waiters_who_ask_at_once_do_not_take_each_other_for_the_holder(
        self, run: RunDirectory
    ) -> None:
        """With eight workers a dead provisioner was noticed a second late."""
        hold(run.lock).release()
        asked: list[bool] = []

        def ask() -> None:
            asked.extend(is_locked(run.lock) for _ in range(300))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert asked == [False] * 1200

    def test_somebody_who_only_asks_is_not_taken_for_the_holder(self, run: RunDirectory) -> None:
        """`kindinfra down` said now and then that a cluster was in use that nobody used."""
        hold(run.lock).release()
        asking = os.open(run.lock, os.O_RDONLY)
        fcntl.flock(asking, fcntl.LOCK_SH)
        answered = threading.Timer(0.1, os.close, [asking])
        answered.start()

        with locked_alone(run.lock) as alone:
            assert alone
        answered.join()

    def test_a_lock_is_taken_once(self, run: RunDirectory) -> None:
        with process("lock = hold(run.lock); print('holding', flush=True); input()", run) as other:
            assert says(other) == "holding"

            with pytest.raises(Timeout):
                hold(run.lock)

            other.communicate("\n")
        assert eventually(lambda: not is_locked(run.lock))

    def test_a_lock_taken_in_one_thread_is_released_in_another(self, run: RunDirectory) -> None:
        lock = hold(run.lock)
        thread = threading.Thread(target=lock.release)
        thread.start()
        thread.join()

        assert not is_locked(run.lock)

    def test_one_block_runs_at_a_time_on_a_host(self, run: RunDirectory) -> None:
        script = """
counter = run.path / "counter"
for _ in range(20):
    with locked(run.path / "count.lock"):
        counter.write_text(str(int(counter.read_text()) + 1))
"""
        run.path.mkdir(parents=True)
        (run.path / "counter").write_text("0")
        with process(script, run) as one, process(script, run) as two:
            assert (one.wait(), two.wait()) == (0, 0)

        assert (run.path / "counter").read_text() == "40"

    def test_a_lock_is_free_after_a_block_that_raised(self, tmp_path: Path) -> None:
        with pytest.raises(LookupError), locked(tmp_path / "lock"):
            raise LookupError

        assert not is_locked(tmp_path / "lock")

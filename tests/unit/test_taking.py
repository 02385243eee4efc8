"""The way to a cluster of a name that other runs may want at the same time."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.clusters.reuse import obtain_cluster
from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.context import Context, FirstFailure, Hooks, Request, Reuse
from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.model import Declaration, Plan
from pytest_kindinfra.state.clusterrecords import ClusterNamed, ReusedCluster
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold, locked_for_all_users
from pytest_kindinfra.state.reused import reused_directory
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.fakes import (
    FakeEngine,
    FakeProvider,
    FakeRegistries,
    FakeRunner,
    eventually,
    fake_tools,
    forbid,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import Cluster

NAME = "shop"


class Bench:
    """Runs that want the cluster of one name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.provider = FakeProvider()
        self.contexts: list[Context] = []
        self.said: list[str] = []

    def context(self, run: str, *, reused_dir: Path | None = None, timeout: float = 5) -> Context:
        """Return a run that wants it; with a reused directory for whoever comes later."""
        directory = RunDirectory(self.folder / run)
        directory.make()
        engine, cancelled = FakeEngine(), threading.Event()
        request = Request(
            cluster=NAME,
            named=True,
            run_id=run,
            namespace="default",
            build_jobs=1,
            timeout=timeout,
            kind_config=None,
            node_image=None,
            tuning=False,
            folder=self.folder,
            reuse=Reuse(reused_dir=reused_dir) if reused_dir else None,
        )
        context = Context(
            plan=Plan(declaration=Declaration(folder=self.folder)),
            request=request,
            tools=fake_tools(
                self.provider,
                engine=engine,
                runner=FakeRunner(),
                timeline=Timeline(),
                registries=FakeRegistries(engine),
            ),
            run=directory,
            hooks=Hooks(say=self.said.append),
            cancelled=cancelled,
            failure=FirstFailure(cancelled, fast=False),
        )
        self.contexts.append(context)
        return context

    def meanwhile(self, name: str, act: Any) -> None:
        """Have `act` happen once, right after the provider's `name` has answered."""
        method = getattr(self.provider, name)

        def answer(*args: Any, **more: Any) -> Any:
            found = method(*args, **more)
            setattr(self.provider, name, method)
            act()
            return found

        setattr(self.provider, name, answer)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for context in made.contexts:
        context.cleanup.close()


def obtain(context: Context) -> Cluster:
    return obtain_cluster(context, "0.31.0", lambda _count: None)


def test_a_cluster_that_another_run_made_meanwhile_is_not_this_runs_to_delete(
    bench: Bench,
) -> None:
    faster = bench.context("faster", reused_dir=reused_directory(bench.folder / "a", NAME).path)
    slower = bench.context("slower", reused_dir=reused_directory(bench.folder / "b", NAME).path)
    bench.meanwhile("observe", lambda: obtain(faster))

    with pytest.raises(ClusterError, match=f'there is already a cluster "{NAME}"'):
        obtain(slower)

    assert [one.run.file(ClusterNamed).exists() for one in (faster, slower)] == [True, False]
    assert [one.run.file(ReusedCluster).exists() for one in (faster, slower)] == [True, False]


def test_the_same_holds_for_one_that_does_not_stay(bench: Bench) -> None:
    faster, slower = bench.context("faster"), bench.context("slower")
    bench.meanwhile("observe", lambda: obtain(faster))

    with pytest.raises(ClusterError, match=f'there is already a cluster "{NAME}"'):
        obtain(slower)

    assert [one.run.file(ClusterNamed).exists() for one in (faster, slower)] == [True, False]


class TestWhatAKilledRunLeft:
    @pytest.fixture
    def dead(self, bench: Bench) -> RunDirectory:
        """A cluster of the name, whose run was killed."""
        context = bench.context("dead")
        obtain(context)
        bench.provider.runs[NAME] = context.run.path
        hold(context.run.lock).release()
        return context.run

    def test_a_sweep_that_deletes_it_just_now_is_waited_for(
        self, bench: Bench, dead: RunDirectory
    ) -> None:
        sweeping, begun, delete = threading.Event(), threading.Event(), bench.provider.delete

        def delete_slowly(name: str, *, kubeconfig: Path, deadline: Deadline) -> None:
            begun.set()
            sweeping.wait(1.3)  # longer than a lock is waited for in any case
            delete(name, kubeconfig=kubeconfig, deadline=deadline)

        bench.provider.delete = delete_slowly  # type: ignore[method-assign]
        other = threading.Thread(target=sweep, args=(bench.provider, Deadline.after(60)))
        other.start()
        assert begun.wait(60)

        cluster = obtain(bench.context("next"))

        other.join()
        observed = bench.provider.observe(NAME, Deadline.after(60))
        assert observed
        assert observed.folder == cluster.kubeconfig.parent != dead.path

    def test_the_directory_of_its_run_has_no_cluster_any_more(
        self, bench: Bench, dead: RunDirectory
    ) -> None:
        obtain(bench.context("next"))

        assert dead.read(ClusterNamed) is None

    def test_one_that_lives_is_not(self, bench: Bench, dead: RunDirectory) -> None:
        lock = hold(dead.lock)

        with pytest.raises(ClusterError) as caught:
            obtain(bench.context("next"))

        lock.release()
        assert str(caught.value) == (
            f'cluster "{NAME}" is in use by another run ({dead.path})\n'
            "To fix: wait until it ends, or use another --kindinfra-cluster-name"
        )

    def test_a_sweep_that_comes_late_leaves_the_next_one_of_that_name_alone(
        self, bench: Bench, dead: RunDirectory
    ) -> None:
        following = bench.context("next")
        bench.meanwhile("run_directories", lambda: obtain(following))

        swept = sweep(bench.provider, Deadline.after(60))

        assert dead.lock.exists()
        assert swept.deleted == []
        assert list(bench.provider.clusters) == [NAME]


class TestReusedDirectories:
    def end(self, context: Context) -> None:
        """End a run whose cluster stays."""
        context.cleanup.close()

    def test_two_spellings_of_one_directory_are_one(self, bench: Bench) -> None:
        reused_dir = reused_directory(bench.folder / "artifacts", NAME).path
        first = bench.context("first", reused_dir=reused_dir)
        obtain(first)
        self.end(first)
        (bench.folder / "link").symlink_to(bench.folder)
        other = reused_directory(bench.folder / "link" / "artifacts", NAME).path

        # It is made anew, since no API server answers.
        cluster = obtain(bench.context("second", reused_dir=other, timeout=2))

        assert cluster.reused_dir == other

    def test_one_that_was_deleted_while_it_was_waited_for_is_made(self, bench: Bench) -> None:
        """Its credentials were looked for, and a line said that it was made anew for that."""
        first = bench.context("first", reused_dir=reused_directory(bench.folder / "a", NAME).path)
        obtain(first)
        second = bench.context("second", reused_dir=reused_directory(bench.folder / "b", NAME).path)

        def end() -> None:
            bench.provider.clusters.clear()
            self.end(first)

        bench.meanwhile("observe", end)

        obtain(second)

        assert bench.said == []


class TestAClusterThatNobodyCanJudge:
    """It may be a live run's: it is never deleted and never reused."""

    @pytest.fixture
    def live(self, bench: Bench) -> Iterator[RunDirectory]:
        """A cluster of the name, whose run lives."""
        context = bench.context("live")
        lock = hold(context.run.lock)
        obtain(context)
        yield context.run
        lock.release()

    @pytest.mark.parametrize("reuse", [False, True], ids=["own", "reuse"])
    def test_a_path_of_the_engines_virtual_machine(
        self, bench: Bench, live: RunDirectory, *, reuse: bool
    ) -> None:
        mount = bench.provider.configs[NAME]["nodes"][0]["extraMounts"][0]
        mount["hostPath"] = f"/host_mnt{live.path}"

        self.refuse(bench, reuse=reuse, why=f"/host_mnt{live.path} is gone, or not of this machine")

    @pytest.mark.parametrize("reuse", [False, True], ids=["own", "reuse"])
    def test_a_run_directory_that_was_removed_in_mid_run(
        self, bench: Bench, live: RunDirectory, *, reuse: bool
    ) -> None:
        shutil.rmtree(live.path)

        self.refuse(bench, reuse=reuse, why=f"{live.path} is gone, or not of this machine")

    @pytest.mark.parametrize("reuse", [False, True], ids=["own", "reuse"])
    def test_one_of_another_user(
        self,
        bench: Bench,
        live: RunDirectory,
        monkeypatch: pytest.MonkeyPatch,
        *,
        reuse: bool,
    ) -> None:
        forbid(monkeypatch, live.path)

        self.refuse(bench, reuse=reuse, why=f"{live.path} cannot be seen: Permission denied")

    def test_a_directory_of_the_same_path_that_has_no_note_of_it(self, bench: Bench) -> None:
        """It was removed while its run lived, or is another container's at the same path."""
        reused_dir = reused_directory(bench.folder / "a", NAME).path
        obtain(bench.context("live", reused_dir=reused_dir))
        shutil.rmtree(reused_dir)

        self.refuse(bench, reuse=True, why=f"{reused_dir} has no note of it", reused_dir=reused_dir)

    def test_one_of_an_earlier_version_of_this_project(self, bench: Bench) -> None:
        reused_dir = reused_directory(bench.folder / "a", NAME).path
        earlier = bench.context("earlier", reused_dir=reused_dir)
        obtain(earlier)
        earlier.cleanup.close()
        for file in (reused_dir / "state").glob("*.json"):
            file.write_text(file.read_text().replace('"format": 2', '"format": 1'))

        self.refuse(bench, reuse=True, why="has format 1, this version", reused_dir=reused_dir)

    def refuse(
        self, bench: Bench, *, reuse: bool, why: str, reused_dir: Path | None = None
    ) -> None:
        reused_dir = reused_dir or reused_directory(bench.folder / "home", NAME).path
        with pytest.raises(ClusterError) as caught:
            obtain(bench.context("next", reused_dir=reused_dir if reuse else None))

        assert list(bench.provider.clusters) == [NAME]
        assert str(caught.value).startswith(
            f'there is already a cluster "{NAME}", and it is unknown whether it is in use: '
        )
        assert why in str(caught.value)
        assert f"To fix: if it is not in use: delete {NAME}; else" in str(caught.value)


class TestTheTurnToCreate:
    def test_the_wait_for_it_is_not_the_clusters_time(self, bench: Bench) -> None:
        """With ten runs of 70 s each on one host the last one failed at 600 s."""
        context = bench.context("next", timeout=5)

        with locked_for_all_users("create", Deadline.after(60), say=print):
            made = threading.Thread(target=obtain, args=(context,))
            made.start()
            assert not eventually(lambda: not made.is_alive(), within=1.5)
        made.join()

        assert list(bench.provider.clusters) == [NAME]
        queue, create = context.tools.timeline.phases
        assert (queue.kind, create.kind) == ("queue", "create")
        assert create.start >= queue.end

    def test_a_run_goes_on_when_its_turn_does_not_come(self, bench: Bench) -> None:
        """Whoever holds the lock for ever would otherwise stop all runs of the host."""
        context = bench.context("next", timeout=0.05)

        with locked_for_all_users("create", Deadline.after(60), say=print):
            obtain(context)

        assert list(bench.provider.clusters) == [NAME]

"""Parts of a cluster that outlives runs: names, containers, routes, old images, the doctor."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.clusters.kind import standing_of
from pytest_kindinfra.commands.doctor import examine
from pytest_kindinfra.coordination import RunDirectory, hold
from pytest_kindinfra.errors import ClusterError, ToolMissingError
from pytest_kindinfra.homes import home_of, is_kept, lock_home, name_after
from pytest_kindinfra.kube import Kube
from pytest_kindinfra.ledger import Entry, read_entry, write_entry
from pytest_kindinfra.lines import routes
from pytest_kindinfra.model import Service, Standing
from pytest_kindinfra.request import Tools
from pytest_kindinfra.runinputs import inputs_hash
from pytest_kindinfra.steps.sweep import sweep
from pytest_kindinfra.timeline import Deadline, Timeline
from tests.fake_kubernetes import FakeKubernetes
from tests.fakes import FakeEngine, FakeProvider, FakeRegistries, FakeRunner

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestNames:
    @pytest.mark.parametrize(
        ("folder", "start"),
        [
            ("/work/shop", "kindinfra-shop-"),
            ("/work/My Shop_2", "kindinfra-my-shop-2-"),
            (
                "/work/an-extraordinarily-long-name",
                "kindinfra-an-extraordinarily-long-",
            ),
            ("/", "kindinfra-"),
        ],
    )
    def test_a_cluster_is_named_after_the_folder(self, folder: str, start: str) -> None:
        name = name_after(Path(folder))
        assert name.startswith(start)
        assert len(name) == len(start) + 6
        assert len(f"{name}-control-plane2") <= 63

    def test_two_folders_of_one_name_have_clusters_of_their_own(self) -> None:
        assert name_after(Path("/a/shop")) != name_after(Path("/b/shop"))


class TestStanding:
    def container(self, name: str, **changes: Any) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "Name": f"/{name}", "State": {"Running": True}, "Mounts": [],
            "HostConfig": {"PortBindings": None},
        }  # fmt: skip
        return shown | changes

    def test_nodes_ports_and_the_mounted_folder(self) -> None:
        ports = {"30000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "21000"}],
                 "30001/udp": [{"HostPort": "21001"}], "30002/tcp": [{"HostPort": ""}]}  # fmt: skip
        mounts = [
            {"Source": "/var", "Destination": "/lib"},
            {"Source": "/home/x", "Destination": "/kindinfra"},
        ]
        control = self.container(
            "c-control-plane", Mounts=mounts, HostConfig={"PortBindings": ports}
        )
        worker = self.container("c-worker", State={"Running": False})
        balancer = self.container("c-external-load-balancer")

        assert standing_of([worker, control, balancer]) == Standing(
            nodes=("c-control-plane", "c-worker"),
            running=False,
            folder=Path("/home/x"),
            host_ports={30000: 21000},
        )

    def test_nothing_is_there(self) -> None:
        assert standing_of([]) is None


class TestLocks:
    def test_who_waits_is_told_by_whom_it_is_used(self, tmp_path: Path) -> None:
        home = home_of(tmp_path, "shop")
        told: list[str] = []
        lock = lock_home(home, user="run 1", waiting=told.append, deadline=Deadline.after(5))

        with pytest.raises(ClusterError) as caught:
            lock_home(home, user="run 2", waiting=told.append, deadline=Deadline.after(1.3))

        lock.release()
        assert told == ["run 1"]
        assert str(caught.value) == (
            'cluster "shop" was in use by run 1 all the time\n'
            "To fix: wait for its end, or take another --kindinfra-cluster-name"
        )

    def test_a_sweep_leaves_alone_what_somebody_takes_at_that_moment(self, tmp_path: Path) -> None:
        home, provider = home_of(tmp_path, "shop"), FakeProvider()
        home.path.mkdir(parents=True)
        home.write("cluster-name", {"name": "shop"})
        lock = hold(home.lock)
        provider.clusters["shop"], provider.runs["shop"] = ("shop-control-plane",), home.path

        held, free = sweep(provider, Deadline.after(5)), None
        lock.release()
        free = sweep(provider, Deadline.after(5))

        assert (held.deleted, free.deleted) == ([], ["shop"])

    def test_a_mark_that_cannot_be_read_is_none(self, tmp_path: Path) -> None:
        home = home_of(tmp_path, "shop")
        assert not is_kept(home)
        home.write("kept", {})
        assert is_kept(home)
        home.file("kept").write_text("{")
        assert not is_kept(home)


class TestLedger:
    def test_what_is_written_is_read_and_what_is_damaged_is_not_believed(
        self, tmp_path: Path
    ) -> None:
        home = RunDirectory(tmp_path)
        entry = Entry(ready=True, content="c", needs={"db": "t"}, returned=[{"kind": "Job"}])

        assert read_entry(home, "web") is None
        write_entry(home, "web", entry)
        assert read_entry(home, "web") == entry
        home.write("applied-web", {"of": "another version"})
        assert read_entry(home, "web") is None


class TestInputs:
    STEP = Service(name="fill", run="some_seeding_step:fill", inputs=("data/*.json",))

    @pytest.fixture(autouse=True)
    def _files(self, tmp_path: Path) -> None:
        (tmp_path / "some_seeding_step.py").write_text("def fill(stack): ...\n")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "a.json").write_text("1")

    @pytest.mark.parametrize(
        ("path", "changes"),
        [
            ("data/a.json", True),
            ("data/b.json", True),
            ("some_seeding_step.py", True),
            ("data/b.txt", False),
        ],
    )
    def test_it_changes_with_what_the_step_reads(
        self, tmp_path: Path, path: str, *, changes: bool
    ) -> None:
        before = inputs_hash(self.STEP, tmp_path)
        (tmp_path / path).write_text("other")

        assert (inputs_hash(self.STEP, tmp_path) != before) is changes

    def test_without_inputs_nobody_knows(self, tmp_path: Path) -> None:
        assert inputs_hash(Service(name="fill", run="a:b"), tmp_path) == ""


class TestRoutes:
    @pytest.fixture
    def kubernetes(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubernetes]:
        monkeypatch.setattr(routes, "_BETWEEN_SYNCS", 0.2)
        with FakeKubernetes() as fake:
            yield fake

    def pod(self, kubernetes: FakeKubernetes, name: str, **meta: Any) -> str:
        labels = {"dev.kindinfra/service": "web"}
        made = kubernetes.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels, **meta},
            }
        )
        return str(made["metadata"]["uid"])

    def test_pods_that_end_are_not_among_those_that_are_there(
        self, kubernetes: FakeKubernetes, tmp_path: Path
    ) -> None:
        uid = self.pod(kubernetes, "a")
        self.pod(kubernetes, "b", deletionTimestamp="2030-01-01T00:00:00Z")
        kube = Kube(kubernetes.write_kubeconfig(tmp_path / "k"))

        assert routes.pods_of(kube, "web") == {uid: "default"}
        kube.close()

    @pytest.mark.parametrize("replaced", [True, False])
    def test_the_wait_is_for_those_that_were_replaced(
        self, kubernetes: FakeKubernetes, tmp_path: Path, *, replaced: bool
    ) -> None:
        uid = self.pod(kubernetes, "a")
        kube = Kube(kubernetes.write_kubeconfig(tmp_path / "k"))
        before = {"gone": "default"} if replaced else {uid: "default"}

        deadline = Deadline.after(30)
        routes.await_routes(kube, "web", before, deadline)

        kube.close()
        asked = [path for _, path in kubernetes.requests if path.endswith("/endpointslices")]
        assert bool(asked) is replaced


class TestDoctor:
    def found(self, tmp_path: Path, tools: Tools, **proc: str) -> list[str]:
        folder = tmp_path / "proc"
        for name, text in proc.items():
            path = folder / ("meminfo" if name == "meminfo" else f"sys/fs/inotify/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        lines = [line for one in examine(tools, environ={}, proc=folder) for line in one.lines]
        return [" ".join(line.split()) for line in lines]

    def tools(self, **changes: Any) -> Tools:
        parts: dict[str, Any] = {
            "engine": FakeEngine(), "provider": FakeProvider(), "registries": FakeRegistries(),
            "runner": FakeRunner(lambda _: "buildx v1\nmore\n"), "timeline": Timeline(),
        }  # fmt: skip
        return Tools(**(parts | changes))

    def test_limits_that_are_too_low_come_with_the_command(self, tmp_path: Path) -> None:
        lines = self.found(
            tmp_path, self.tools(), max_user_instances="128", max_user_watches="600000",
            meminfo="MemTotal: 9 kB\nMemAvailable: 1500000 kB\n",
        )  # fmt: skip

        said = "with several kind nodes pods may fail with too many open files"
        at = lines.index(f"odd inotify fs.inotify.max_user_instances is 128; {said}")
        assert lines[at + 1] == "To fix: sysctl fs.inotify.max_user_instances=512"
        assert "ok inotify fs.inotify.max_user_watches is 600000" in lines
        assert "odd memory 1.5 GB available" in lines
        assert "ok buildx buildx v1" in lines

    def test_a_missing_engine_is_told_in_its_own_words(self, tmp_path: Path) -> None:
        error = ToolMissingError("docker does not answer\n  more\nTo fix: start it")
        lines = self.found(tmp_path, self.tools(engine=FakeEngine(version=error)))

        at = lines.index("missing engine docker does not answer: more")
        assert lines[at + 1] == "To fix: start it"
        assert not [line for line in lines if "buildx" in line]


def test_a_lock_may_be_let_go_of_by_another_thread(tmp_path: Path) -> None:
    """The thread that provisions takes it, the main thread lets go."""
    home, locks = home_of(tmp_path, "shop"), []
    deadline = Deadline.after(5)
    thread = threading.Thread(
        target=lambda: locks.append(
            lock_home(home, user="a", waiting=lambda _: None, deadline=deadline)
        )
    )
    thread.start()
    thread.join()
    locks[0].release()

    lock_home(home, user="b", waiting=lambda _: None, deadline=deadline).release()

"""Parts of a cluster that outlives runs: names, containers, routes, old images, the doctor."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_kindinfra.clusters.kind import observed_cluster
from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.commands.doctor import examine
from pytest_kindinfra.deploy.apply import inputs_hash
from pytest_kindinfra.deploy.renewal import delete_objects
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.errors import ClusterError, ToolMissingError
from pytest_kindinfra.kube import routes
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.model import Service
from pytest_kindinfra.protocols.cluster import ObservedCluster
from pytest_kindinfra.state.clusterrecords import ClusterKept, ClusterNamed, Deployed
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.reused import (
    acquire,
    is_kept,
    read_deployed,
    reused_directory,
    write_deployed,
)
from pytest_kindinfra.state.runnames import name_after
from pytest_kindinfra.system.runner import Completed
from pytest_kindinfra.system.timeline import Deadline
from tests.fake_kubernetes import FakeKubernetes
from tests.fakes import FakeEngine, FakeProvider, FakeRunner, fake_tools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.context import Tools

MEMINFO = "".join(
    f"{name}: {kilobytes} kB\n"
    for name, kilobytes in (
        ("MemTotal", 9000000),
        ("MemFree", 100000),
        ("MemAvailable", 1500000),
        *((other, 0) for other in ("Buffers", "Cached", "Shmem", "Active", "Inactive")),
    )
)


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

        assert observed_cluster([worker, control, balancer]) == ObservedCluster(
            nodes=("c-control-plane", "c-worker"),
            running=False,
            folder=Path("/home/x"),
            host_ports={30000: 21000},
            hosts={30000: "127.0.0.1"},
        )

    def test_nothing_is_there(self) -> None:
        assert observed_cluster([]) is None


class TestLocks:
    def test_who_waits_is_told_by_whom_it_is_used(self, tmp_path: Path) -> None:
        directory = reused_directory(tmp_path, "shop")
        told: list[str] = []
        lock = acquire(directory, user="run 1", waiting=told.append, deadline=Deadline.after(60))

        with pytest.raises(ClusterError) as caught:
            acquire(directory, user="run 2", waiting=told.append, deadline=Deadline.after(1.3))

        lock.release()
        assert told == ["run 1"]
        assert str(caught.value) == (
            'cluster "shop" did not become free within 1.3 s: it is in use by run 1\n'
            "To fix: wait until it ends, or use another --kindinfra-cluster-name"
        )

    def test_a_sweep_leaves_alone_what_somebody_takes_at_that_moment(self, tmp_path: Path) -> None:
        directory, provider = reused_directory(tmp_path, "shop"), FakeProvider()
        directory.path.mkdir(parents=True)
        directory.write(ClusterNamed(name="shop"))
        lock = hold(directory.lock)
        provider.clusters["shop"], provider.runs["shop"] = ("shop-control-plane",), directory.path

        held, free = sweep(provider, Deadline.after(60)), None
        lock.release()
        free = sweep(provider, Deadline.after(60))

        assert (held.deleted, free.deleted) == ([], ["shop"])

    def test_a_mark_that_cannot_be_read_is_none(self, tmp_path: Path) -> None:
        directory = reused_directory(tmp_path, "shop")
        assert not is_kept(directory)
        directory.write(ClusterKept(cluster="shop"))
        assert is_kept(directory)
        directory.file(ClusterKept).write_text("{")
        assert not is_kept(directory)


class TestDeployedState:
    def test_what_is_written_is_read_and_what_is_damaged_is_not_believed(
        self, tmp_path: Path
    ) -> None:
        directory = RunDirectory(tmp_path)
        deployed = Deployed(ready=True, content="c", needs={"db": "t"}, returned=({"kind": "Job"},))

        assert read_deployed(directory, "web") is None
        write_deployed(directory, "web", deployed)
        assert read_deployed(directory, "web") == deployed
        directory.file(Deployed, "web").write_text(
            '{"format": 2, "value": {"of": "another version"}}'
        )
        assert read_deployed(directory, "web") is None


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

    def test_inputs_in_the_home_folder_count(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The check found them, and the hash did not: an edit did not run the step again."""
        monkeypatch.setenv("HOME", str(tmp_path))
        step = Service(name="fill", run="nowhere:fill", inputs=("~/rows.csv",))
        (tmp_path / "rows.csv").write_text("1")
        before = inputs_hash(step, tmp_path / "project")
        (tmp_path / "rows.csv").write_text("2")

        assert inputs_hash(step, tmp_path / "project") != before


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


class TestWhenKubeProxyHasFollowed:
    def proxy(self, kubernetes: FakeKubernetes, config: str) -> None:
        kubernetes.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
                "data": {"config.conf": config},
            }
        )

    @pytest.mark.parametrize(
        ("config", "seconds"),
        [
            pytest.param("iptables: {minSyncPeriod: 1s}", 1.1, id="as kind makes it"),
            pytest.param("iptables: {minSyncPeriod: 100ms}", 0.35, id="tuned"),
            pytest.param("iptables: {minSyncPeriod: 0s}", 1.1, id="left to kube-proxy"),
            pytest.param("iptables: {minSyncPeriod: 1m}", 60.1, id="long"),
            pytest.param("mode: ''\niptables: {minSyncPeriod: 2s}", 2.1, id="the usual mode"),
            pytest.param(
                "mode: ipvs\niptables: {minSyncPeriod: 100ms}\nipvs: {minSyncPeriod: 3s}",
                3.1,
                id="another mode",
            ),
            pytest.param("mode: nftables\niptables: {minSyncPeriod: 100ms}", 1.1, id="no table"),
            pytest.param("iptables: {minSyncPeriod: soon}", 1.1, id="no duration"),
            pytest.param("iptables: @", 1.1, id="no YAML"),
            pytest.param("- x", 1.1, id="a list"),
            pytest.param("", 1.1, id="empty"),
        ],
    )
    def test_its_own_configuration_says_so(
        self, tmp_path: Path, config: str, seconds: float
    ) -> None:
        with FakeKubernetes() as kubernetes:
            self.proxy(kubernetes, config)
            kube = Kube(kubernetes.write_kubeconfig(tmp_path / "k"))

            assert routes.between_syncs(kube) == pytest.approx(seconds)
            kube.close()

    def test_a_cluster_without_kube_proxy_counts_as_usual(self, tmp_path: Path) -> None:
        with FakeKubernetes() as kubernetes:
            kube = Kube(kubernetes.write_kubeconfig(tmp_path / "k"))

            assert routes.between_syncs(kube) == pytest.approx(1.1)
            kube.close()


class TestAnObjectThatMovesFromOneServiceToAnother:
    """Both services are brought up at the same time; the last one deletes what it has no more."""

    PATH = "/api/v1/namespaces/default/configmaps/common"

    def common(self, service: str) -> dict[str, Any]:
        labels = {"dev.kindinfra/service": service}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "common", "namespace": "default", "labels": labels},
        }

    def test_it_stays_if_the_other_one_applied_it_meanwhile(self, tmp_path: Path) -> None:
        """It was deleted after the other service had applied it, which then waited for it."""
        with FakeKubernetes() as kubernetes:
            kube = Kube(kubernetes.write_kubeconfig(tmp_path / "k"))
            kubernetes.put(self.common("a"))
            kubernetes.before_deletion = lambda _: kubernetes.put(self.common("b"))

            assert delete_objects(kube, [self.common("a")], service="a") == []

            assert self.PATH in kubernetes.objects
            kube.close()

    def test_it_goes_if_nobody_took_it(self, tmp_path: Path) -> None:
        with FakeKubernetes() as kubernetes:
            kube = Kube(kubernetes.write_kubeconfig(tmp_path / "k"))
            uid = kubernetes.put(self.common("a"))["metadata"]["uid"]

            assert delete_objects(kube, [self.common("a")], service="a") == [(self.PATH, uid)]

            assert self.PATH not in kubernetes.objects
            kube.close()


class TestDoctor:
    def found(self, tmp_path: Path, tools: Tools, **inotify: str) -> list[str]:
        folder = tmp_path / "proc"
        for name, text in inotify.items():
            path = folder / f"sys/fs/inotify/{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        lines = [line for one in examine(tools, environ={}, proc=folder) for line in one.lines]
        return [" ".join(line.split()) for line in lines]

    def tools(self, **changes: Any) -> Tools:
        runner = changes.pop("runner", None) or self.runner(buildx="buildx v1\nmore\n")
        parts: dict[str, Any] = {"runner": runner, "engine": Docker(runner)}
        return fake_tools(**(parts | changes))

    def runner(self, *, engine: str = "29.0", buildx: str = "0.30.0") -> FakeRunner:
        """Return one in which programs say their versions, and nothing else."""

        def answer(argv: tuple[str, ...]) -> str:
            if "version" not in argv:
                return ""
            return buildx if "buildx" in argv else engine

        return FakeRunner(answer)

    @pytest.mark.parametrize(
        ("what", "version", "beginning", "fix"),
        [
            (
                "engine",
                "20.10.24",
                "warning engine docker 20.10.24, older than 23.0: its BuildKit has no named",
                "install Docker Engine 23.0 or newer: ",
            ),
            (
                "buildx",
                "github.com/docker/buildx v0.9.1 ed00243",
                "warning buildx github.com/docker/buildx v0.9.1 ed00243, older than 0.10: it does",
                "install buildx 0.10 or newer: ",
            ),
            (
                "kind",
                "0.19.0",
                "warning kind 0.19.0, older than 0.20: node images of Kubernetes 1.27.2 and newer",
                "install kind 0.20 or newer: ",
            ),
        ],
    )
    def test_a_program_that_is_too_old_comes_with_what_it_lacks(
        self, what: str, version: str, beginning: str, fix: str, tmp_path: Path
    ) -> None:
        """A program that is there need not know the flags that it gets."""
        tools = self.tools(
            provider=FakeProvider(version=version if what == "kind" else "0.31.0"),
            runner=self.runner(**({} if what == "kind" else {what: version})),
        )

        lines = self.found(tmp_path, tools)

        (at,) = (at for at, line in enumerate(lines) if line.startswith(beginning))
        assert lines[at + 1].startswith(f"To fix: {fix}")

    @pytest.mark.parametrize("version", ["0.10.0", "v0.29.1", "1.0"])
    def test_one_that_is_new_enough_is_ok(self, version: str, tmp_path: Path) -> None:
        lines = self.found(tmp_path, self.tools(runner=self.runner(buildx=version)))

        assert f"ok buildx {version}" in lines

    def test_a_builder_that_cannot_see_the_engines_images_is_named(self, tmp_path: Path) -> None:
        """As docker/setup-buildx-action makes it the one in use."""

        def answer(argv: tuple[str, ...]) -> str:
            if argv[1:3] == ("buildx", "inspect"):
                return "Name: ci\nDriver: docker-container\n"
            return "rootless\n" if argv[1] == "context" else "buildx v0.29.1\n"

        lines = self.found(tmp_path, self.tools(runner=FakeRunner(answer)))

        at = lines.index(
            'warning builder "ci" (docker-container) is in use, which cannot see the engine\'s '
            "images; images are built by the engine's own builder instead"
        )
        assert lines[at + 1].startswith("To fix: nothing, or docker buildx use rootless")

    def test_limits_that_are_too_low_come_with_the_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
        monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))

        lines = self.found(
            tmp_path, self.tools(), max_user_instances="128", max_user_watches="600000"
        )

        said = "with several kind nodes pods may fail with too many open files"
        at = lines.index(f"warning inotify fs.inotify.max_user_instances is 128; {said}")
        assert lines[at + 1] == "To fix: sysctl fs.inotify.max_user_instances=512"
        assert "ok inotify fs.inotify.max_user_watches is 600000" in lines
        assert "warning memory 1.5 GB available" in lines
        assert "ok buildx buildx v1" in lines

    def test_a_setpriv_that_does_not_know_the_flag_is_odd(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        setpriv = tmp_path / "setpriv"
        setpriv.write_text("#!/bin/sh\nexit 1\n")
        setpriv.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

        lines = self.found(tmp_path, self.tools())

        at = next(n for n, line in enumerate(lines) if line.startswith("warning setpriv"))
        assert f"{setpriv} does not know --pdeathsig; if pytest is killed" in lines[at]
        assert lines[at + 1].startswith("To fix: install setpriv of util-linux 2.33 or newer")

    def test_a_kubectl_that_does_not_work_is_odd(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def answer(argv: tuple[str, ...]) -> Completed | str:
            said = "No version is set for command kubectl"
            return Completed("", said, 126) if argv[0] == "kubectl" else "v1"

        kubectl = tmp_path / "kubectl"
        kubectl.write_text("")
        kubectl.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

        lines = self.found(tmp_path, self.tools(runner=FakeRunner(answer)))

        [told] = [line for line in lines if line.startswith("warning kubectl")]
        assert f"{kubectl} does not work" in told
        assert "No version is set for command kubectl" in told

    def test_a_missing_engine_is_told_in_its_own_words(self, tmp_path: Path) -> None:
        error = ToolMissingError("docker does not answer\n  more\nTo fix: start it")
        lines = self.found(tmp_path, self.tools(engine=FakeEngine(version=error)))

        at = lines.index("missing engine docker does not answer: more")
        assert lines[at + 1] == "To fix: start it"
        assert not [line for line in lines if "buildx" in line]


def test_a_lock_may_be_let_go_of_by_another_thread(tmp_path: Path) -> None:
    """The thread that provisions takes it, the main thread lets go."""
    directory, locks = reused_directory(tmp_path, "shop"), []
    deadline = Deadline.after(60)
    thread = threading.Thread(
        target=lambda: locks.append(
            acquire(directory, user="a", waiting=lambda _: None, deadline=deadline)
        )
    )
    thread.start()
    thread.join()
    locks[0].release()

    acquire(directory, user="b", waiting=lambda _: None, deadline=deadline).release()

"""A cluster that is lost during the run, and a host port that is taken: the steps with fakes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.clusters.create import choose_host_ports, create_cluster
from pytest_kindinfra.clusters.steps import watch_nodes
from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.context import Context, FirstFailure, Hooks, Request
from pytest_kindinfra.errors import ClusterError, CommandError, PortTakenError, ToolMissingError
from pytest_kindinfra.model import Cluster, Declaration, Plan, PortMapping
from pytest_kindinfra.state.clusterrecords import ClusterKept, ClusterNamed
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import NodeLost
from pytest_kindinfra.state.results import Failed, failure_of
from pytest_kindinfra.state.rotation import rotate
from tests.fakes import FakeEngine, FakeProvider, eventually, fake_tools, forbid

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline

NODES = ("k-control-plane", "k-worker")


@pytest.fixture
def context(run: RunDirectory, tmp_path: Path) -> Iterator[Context]:
    import threading

    cancelled = threading.Event()
    run.make()
    yield Context(
        plan=Plan(declaration=Declaration(folder=tmp_path)),
        request=Request(
            cluster="k", run_id="1", namespace="default", build_jobs=1, timeout=20,
            kind_config=None, node_image=None, tuning=False, folder=tmp_path,
        ),
        tools=fake_tools(),
        run=run,
        hooks=Hooks(),
        cancelled=cancelled,
        failure=FirstFailure(cancelled, fast=False),
    )  # fmt: skip
    cancelled.set()
    assert eventually(lambda: not watchers())


def watchers() -> list[threading.Thread]:
    import threading

    return [thread for thread in threading.enumerate() if thread.name.startswith("kindinfra-k-")]


def watch(context: Context) -> FakeProvider:
    provider = context.tools.provider
    assert isinstance(provider, FakeProvider)
    kubeconfig = context.run.kubeconfig
    watch_nodes(
        Cluster(name="k", kubeconfig=kubeconfig, nodes=NODES, host_ports={}, owned=True), context
    )
    return provider


def lost(context: Context) -> Failed:
    assert eventually(context.cancelled.is_set)
    found = context.run.settled(NodeLost)
    assert found
    return found


class TestALostCluster:
    def test_a_kind_node_that_ended_is_named_with_what_is_known(self, context: Context) -> None:
        watch(context).ended["k-worker"] = "exit code 137"

        record = lost(context)

        assert record.full == (
            'kind node "k-worker" of cluster "k" ended during the run (exit code 137)\n'
            "To fix: find out what stopped or removed its container, or whether memory ran out "
            "(dmesg); then run again"
        )
        assert record.short.startswith("the cluster was lost: kind node")
        assert len(record.short.splitlines()) <= 5

    def test_a_stopped_engine_is_named_rather_than_its_containers(self, context: Context) -> None:
        assert isinstance(context.tools.engine, FakeEngine)
        context.tools.engine.version = ToolMissingError("the Docker engine does not answer")
        watch(context).ended["k-control-plane"] = "error waiting for container: unexpected EOF"

        assert lost(context).full == (
            'the engine stopped, and with it cluster "k":\nthe Docker engine does not answer'
        )

    def test_it_explains_whatever_is_given_up_for_it(self, context: Context) -> None:
        from pytest_kindinfra.errors import CancelledError

        watch(context).ended["k-worker"] = "exit code 137"
        lost(context)

        record = failure_of(context.failure.explain(CancelledError("x")), subject="it")

        assert record.root == "the cluster"
        assert 'kind node "k-worker"' in record.full
        assert record.cancelled is False

    def test_two_kind_nodes_that_end_at_once_are_one_loss(self, context: Context) -> None:
        provider = watch(context)
        provider.ended |= dict.fromkeys(NODES, "exit code 0")

        assert 'kind node "k-' in lost(context).full
        assert eventually(lambda: not watchers())

    def test_a_run_that_ends_loses_nothing(self, context: Context) -> None:
        """The deletion of the cluster itself was told as its loss."""
        provider = watch(context)
        context.cancelled.set()
        provider.ended |= dict.fromkeys(NODES, "exit code 0")

        assert eventually(lambda: not watchers())
        assert context.run.settled(NodeLost) is None


def create(run: RunDirectory, provider: FakeProvider, soon: Deadline, *, fixed: int = 0) -> Cluster:
    mapping = PortMapping(
        service="api", endpoint="http", node_port=30000, host_port=fixed or None, in_manifest=False
    )
    return create_cluster(
        "k",
        plan=Plan(declaration=Declaration(folder=run.path), ports=(mapping,)),
        base=None,
        node_image=None,
        tuning=False,
        run=run,
        folder=run.path,
        creator=provider,
        begun=lambda _: None,
        deadline=soon,
    )


def host_port(config: dict[str, Any]) -> int:
    (mapping,) = config["nodes"][0]["extraPortMappings"]
    return int(mapping["hostPort"])


class TestAHostPortThatSomebodyTook:
    def test_another_one_is_chosen(self, run: RunDirectory, soon: Deadline) -> None:
        tried: list[int] = []
        provider = FakeProvider()

        def fail_first(name: str, _: Path) -> None:
            tried.append(host_port(provider.configs[name]))
            if len(tried) == 1:
                msg = "port is already allocated"
                raise PortTakenError(msg)

        provider.on_create = fail_first
        run.make()

        cluster = create(run, provider, soon)

        assert len(tried) == 2
        assert cluster.host_ports == {30000: tried[1]}

    def test_it_is_given_up_after_three_tries_with_nothing_left(
        self, run: RunDirectory, soon: Deadline
    ) -> None:
        def fail(_: str, __: Path) -> None:
            tried.append(1)
            msg = "port is already allocated"
            raise PortTakenError(msg)

        tried: list[int] = []
        provider = FakeProvider(on_create=fail)
        run.make()

        with pytest.raises(PortTakenError):
            create(run, provider, soon)

        assert len(tried) == 3

    def test_any_other_failure_is_not_tried_again(self, run: RunDirectory, soon: Deadline) -> None:
        def fail(_: str, __: Path) -> None:
            tried.append(1)
            msg = "failed to init node with kubeadm"
            raise ClusterError(msg)

        tried: list[int] = []
        run.make()

        with pytest.raises(ClusterError, match="kubeadm"):
            create(run, FakeProvider(on_create=fail), soon)

        assert len(tried) == 1


class TestFreeHostPorts:
    def test_are_none_that_systems_give_away_and_none_that_is_declared(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A port that was free a moment ago was taken by an outgoing connection."""
        monkeypatch.setattr("pytest_kindinfra.system.files._QUIET_PORTS", range(24100, 24112))
        fixed = [PortMapping(service="a", endpoint=str(port), node_port=port, host_port=port,
                             in_manifest=False) for port in range(24100, 24106)]  # fmt: skip
        free = [PortMapping(service="b", endpoint=str(port), node_port=port, host_port=None,
                            in_manifest=False) for port in range(30000, 30003)]  # fmt: skip

        chosen = choose_host_ports([*fixed, *free], mapped={30000: 24106})

        assert chosen[30000] == 24106
        others = {chosen[30001], chosen[30002]}
        assert len(others) == 2
        assert others.isdisjoint(range(24100, 24107))

    def test_are_any_that_is_free_if_those_are_all_busy(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            monkeypatch.setattr("pytest_kindinfra.system.files._QUIET_PORTS", range(port, port + 1))
            mapping = PortMapping(service="b", endpoint="x", node_port=30000, host_port=None,
                                  in_manifest=False)  # fmt: skip

            chosen = choose_host_ports([mapping], mapped={})

        assert chosen[30000] not in (0, port)


class TestLeftoversThatNobodyCanJudge:
    def leave(self, folder: Path) -> tuple[RunDirectory, FakeProvider]:
        run = RunDirectory(folder / "run-dead")
        run.make()
        run.write(ClusterNamed(name="k"))
        hold(run.lock).release()
        provider = FakeProvider(clusters={"k": NODES}, runs={"k": run.path})
        return run, provider

    def test_a_dead_run_is_swept(self, tmp_path: Path, soon: Deadline) -> None:
        _, provider = self.leave(tmp_path)

        swept = sweep(provider, soon)

        assert (swept.deleted, swept.unclear, provider.clusters) == (["k"], {}, {})

    def test_the_directory_of_a_killed_run_goes_once_its_cluster_is_deleted(
        self, tmp_path: Path, soon: Deadline
    ) -> None:
        run = RunDirectory(tmp_path / "20260101-000000-abcdef")
        run.make()
        run.write(ClusterNamed(name="k"))
        hold(run.lock).release()
        provider = FakeProvider(clusters={"k": NODES}, runs={"k": run.path})

        before = rotate(tmp_path, keep=0)
        sweep(provider, soon)

        assert (before, rotate(tmp_path, keep=0)) == ([], [run.path])

    def test_a_live_run_is_not(self, tmp_path: Path, soon: Deadline) -> None:
        run, provider = self.leave(tmp_path)
        alive = hold(run.lock)

        swept = sweep(provider, soon)
        alive.release()

        assert (swept.deleted, swept.unclear) == ([], {})

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("rubbish", "cannot be read: "),
            ('{"format": 9, "value": {}}', "has format 9, this version of pytest-kindinfra"),
            (
                '{"format": 1, "value": {}}',
                "has format 1, this version of pytest-kindinfra reads 2",
            ),
            ('{"format": 2, "value": {"of": "x"}}', "is not what this version of pytest-kindinfra"),
        ],
    )
    def test_a_mark_that_cannot_be_believed_is_named_and_the_cluster_left_alone(
        self, tmp_path: Path, soon: Deadline, content: str, why: str
    ) -> None:
        run, provider = self.leave(tmp_path)
        run.write(ClusterKept(cluster="k"))
        run.file(ClusterKept).write_text(content)

        swept = sweep(provider, soon)

        assert swept.deleted == []
        assert why in swept.unclear["k"]
        assert list(provider.clusters) == ["k"]
        assert run.file(ClusterKept).read_text() == content  # another version's, perhaps

    def test_a_run_directory_that_is_gone_is_named(self, tmp_path: Path, soon: Deadline) -> None:
        provider = FakeProvider(clusters={"k": NODES}, runs={"k": tmp_path / "gone"})

        swept = sweep(provider, soon)

        gone = tmp_path / "gone"
        assert swept.unclear == {"k": f"its run directory {gone} is gone, or not of this machine"}
        assert list(provider.clusters) == ["k"]

    def test_a_run_directory_of_another_user_stops_nothing(
        self, tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, provider = self.leave(tmp_path)
        other = self.leave(tmp_path / "other")[0]
        provider.clusters["other"] = NODES
        provider.runs = {"other": other.path, "k": run.path}

        forbid(monkeypatch, other.path)

        swept = sweep(provider, soon)

        assert swept.deleted == ["k"]
        assert swept.unclear["other"] == (
            f"its run directory {other.path} cannot be seen: Permission denied "
            "(another user's, whose kindinfra gc can tell)"
        )

    @pytest.mark.parametrize("lost", ["the folder", "the lock", "the note"])
    def test_what_is_left_of_a_run_directory_proves_nothing(
        self, tmp_path: Path, soon: Deadline, lost: str
    ) -> None:
        run, provider = self.leave(tmp_path)
        if lost == "the folder":
            run.path.rename(tmp_path / "aside")
            run.path.symlink_to(run.path)  # a loop: ELOOP
        elif lost == "the lock":
            run.lock.unlink()
        else:
            run.file(ClusterNamed).unlink()

        swept = sweep(provider, soon)

        assert list(provider.clusters) == ["k"]
        assert str(run.path) in swept.unclear["k"]

    def test_a_cluster_that_cannot_be_deleted_keeps_no_other_from_it(
        self, tmp_path: Path, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, provider = self.leave(tmp_path / "a")
        second = RunDirectory(tmp_path / "b" / "run-dead")
        second.make()
        second.write(ClusterNamed(name="l"))
        hold(second.lock).release()
        provider.clusters["l"] = NODES
        provider.runs = {"k": first.path, "l": second.path}
        delete = provider.delete

        def refuse(name: str, *, kubeconfig: Path, deadline: Deadline) -> None:
            if name == "k":
                raise CommandError(["kind"], exit_code=1, output="device or resource busy")
            delete(name, kubeconfig=kubeconfig, deadline=deadline)

        monkeypatch.setattr(provider, "delete", refuse)

        swept = sweep(provider, soon)

        assert swept.deleted == ["l"]
        assert "device or resource busy" in swept.failed["k"]

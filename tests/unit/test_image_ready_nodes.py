"""Kind nodes that take images: all together, or one of them later."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import ClusterError, CommandError
from pytest_kindinfra.images import load
from pytest_kindinfra.images.load import ImageLoader, ImageReadyNodes
from pytest_kindinfra.model import Cluster
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.fakes import FakeEngine, FakeProvider, FakeRunner, Piped, eventually

if TYPE_CHECKING:
    from pathlib import Path

NODES = ("k-control-plane", "k-worker")


@dataclass
class Bench:
    provider: FakeProvider = field(default_factory=lambda: FakeProvider(clusters={"k": NODES}))
    runner: FakeRunner = field(default_factory=FakeRunner)
    created: Future[Cluster] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.runner.on_pipe = self.stream
        self.ready = ImageReadyNodes(
            provider=self.provider, cluster="k", count=2, created=self.created, settle=0.05
        )

    def stream(self, piped: Piped) -> None:
        for _, node in piped.sinks:
            self.provider.images.setdefault(node, set()).update(piped.source[1:])

    def loader(self, *nodes: str, late: bool) -> ImageLoader:
        return ImageLoader(
            nodes,
            engine=FakeEngine(),
            kind_nodes=self.provider,
            runner=self.runner,
            timeline=Timeline(),
            late=late,
        )

    def sinks(self) -> list[list[str]]:
        return [[node for _, node in pipe.sinks] for pipe in self.runner.pipes]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(load, "_EVERY", 0.005)
    return Bench()


def test_all_that_answer_at_about_the_same_time_are_taken_together(
    bench: Bench, soon: Deadline
) -> None:
    bench.provider.silent = {"k-worker"}
    patient = ImageReadyNodes(provider=bench.provider, cluster="k", count=2, created=bench.created)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(patient.await_first, soon)
        assert not eventually(first.done, within=0.05)
        bench.provider.silent.clear()

        assert first.result(10) == NODES


def test_one_that_is_late_does_not_hold_the_others_up(bench: Bench, soon: Deadline) -> None:
    bench.provider.silent = {"k-worker"}

    assert bench.ready.await_first(soon) == ("k-control-plane",)


def test_a_late_one_gets_all_that_was_sent_before_it_came(bench: Bench, soon: Deadline) -> None:
    """An image counted as loaded while a kind node of the cluster had not got it."""
    bench.provider.silent = {"k-worker"}
    loader = bench.loader("k-control-plane", late=True)
    with ThreadPoolExecutor(3) as pool:
        loads = [pool.submit(loader.load, name, f"localhost/{name}:1", soon) for name in "ab"]
        assert eventually(
            lambda: bench.provider.images == {"k-control-plane": {"localhost/a:1", "localhost/b:1"}}
        )
        assert not any(one.done() for one in loads)

        bench.provider.silent.clear()
        bench.ready.join_late(loader, ("k-control-plane",), soon)

        assert [one.result(10) for one in loads] == ["localhost/a:1", "localhost/b:1"]
    assert bench.provider.images["k-worker"] == {"localhost/a:1", "localhost/b:1"}
    assert bench.sinks()[-1] == ["k-worker"]


def test_what_comes_after_it_joined_goes_to_all_in_one_stream(bench: Bench, soon: Deadline) -> None:
    loader = bench.loader("k-control-plane", late=True)
    bench.ready.join_late(loader, ("k-control-plane",), soon)

    loader.load("a", "localhost/a:1", soon)

    assert bench.sinks() == [["k-control-plane", "k-worker"]]


def test_one_that_never_answers_fails_the_loads(bench: Bench) -> None:
    bench.provider.silent = {"k-worker"}
    loader = bench.loader("k-control-plane", late=True)

    with pytest.raises(ClusterError) as caught:
        bench.ready.join_late(loader, ("k-control-plane",), Deadline.after(0.05))

    assert str(caught.value) == (
        '1 kind node of cluster "k" accepted no images within 0.05 s; nodes that did: '
        "k-control-plane"
    )
    with pytest.raises(ClusterError, match="accepted no images"):
        loader.load("a", "localhost/a:1", Deadline.after(60))


def test_what_cannot_be_sent_to_a_late_one_fails_the_loads(bench: Bench, soon: Deadline) -> None:
    loader = bench.loader("k-control-plane", late=True)

    def stream(piped: Piped) -> None:
        if "k-worker" in str(piped.sinks):
            raise CommandError(["ctr"], exit_code=1, output="no space left on device")
        bench.stream(piped)

    bench.runner.on_pipe = stream
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(loader.load, "a", "localhost/a:1", soon)
        assert eventually(lambda: "k-control-plane" in bench.provider.images)
        with pytest.raises(CommandError, match="no space left"):
            bench.ready.join_late(loader, ("k-control-plane",), soon)

        with pytest.raises(CommandError, match="no space left"):
            load.result(10)


def test_kind_nodes_of_a_finished_cluster_need_not_be_asked(
    bench: Bench, soon: Deadline, tmp_path: Path
) -> None:
    bench.provider.silent = {*NODES}
    kubeconfig = tmp_path / "kubeconfig"
    bench.created.set_result(
        Cluster(name="k", kubeconfig=kubeconfig, nodes=NODES, host_ports={}, owned=True)
    )

    assert bench.ready.await_first(soon) == NODES


def test_a_cluster_that_did_not_come_up_is_not_waited_for(bench: Bench, soon: Deadline) -> None:
    bench.provider.silent = {*NODES}
    bench.created.set_exception(ClusterError("kubeadm failed"))

    with pytest.raises(ClusterError, match="kubeadm failed"):
        bench.ready.await_first(soon)


def test_a_runtime_that_never_answers_is_named(bench: Bench) -> None:
    bench.provider.silent = {*NODES}

    with pytest.raises(ClusterError) as caught:
        bench.ready.await_first(Deadline.after(0.02))

    assert str(caught.value) == 'the container runtime of cluster "k" does not answer within 0.02 s'


@pytest.mark.parametrize("nodes", [NODES, ()])
def test_kind_nodes_of_a_cluster_that_was_there_take_images(
    bench: Bench, soon: Deadline, tmp_path: Path, nodes: tuple[str, ...]
) -> None:
    there = ImageReadyNodes(provider=bench.provider, cluster="far", count=0, created=bench.created)
    bench.created.set_result(
        Cluster(name="far", kubeconfig=tmp_path, nodes=nodes, host_ports={}, owned=False)
    )
    if nodes:
        assert there.await_first(soon) == nodes
        return

    with pytest.raises(ClusterError) as caught:
        there.await_first(soon)
    assert str(caught.value) == 'cluster "far" has no kind nodes on this host to load images into'

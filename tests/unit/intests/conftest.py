"""A fake API server, and the stack of a run whose one service is deployed there."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.intests import workloads
from pytest_kindinfra.intests.changes import CurrentTest
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube import client, troubles
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.kube.rewrite import rewrite
from pytest_kindinfra.model import SERVICE_LABEL
from pytest_kindinfra.state.records import ClusterReady, DeployedService, PlanMade, ServiceReady
from pytest_kindinfra.system.timeline import Deadline, now
from tests.fake_kubernetes import FakeKubernetes
from tests.unit.kube.objects import workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.directory import RunDirectory


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what is long for the sake of real clusters."""
    monkeypatch.setattr(client, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(troubles, "EVENTS_AFTER", 0.05)
    monkeypatch.setattr(troubles, "EVENTS_EVERY", 0.05)
    monkeypatch.setattr(workloads, "SETTLE", 0.1)


@pytest.fixture
def fake() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        yield server


@pytest.fixture
def kube(fake: FakeKubernetes, tmp_path: Path) -> Iterator[Kube]:
    kube = Kube(fake.write_kubeconfig(tmp_path / "kubeconfig"))
    yield kube
    kube.close()


@pytest.fixture
def soon() -> Deadline:
    """Time enough for everything that works."""
    return Deadline.after(10)


@pytest.fixture
def current() -> CurrentTest:
    """The test that is said to run."""
    return CurrentTest(name="test_it.py::test_it", since=now() - 5)


@pytest.fixture
def stack(
    run: RunDirectory, fake: FakeKubernetes, tmp_path: Path, current: CurrentTest
) -> Iterator[Stack]:
    """The stack of a run with one service, web, of a Deployment with a k8s service."""
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    with closing(Kube(kubeconfig)) as kube:
        applied = [
            kube.apply(labelled(obj), namespace="default", deadline=Deadline.after(10))
            for obj in (workload(name="web", replicas=1), k8s_service("web"))
        ]
        soon = Deadline.after(10)
        kube.wait_ready(applied, namespace="default", deadline=soon, restarts=0, settle=0)
    run.settle(PlanMade(services=("web",), engine="docker"))
    run.settle(ClusterReady(name="kind-1", kubeconfig=kubeconfig, namespace="default"))
    run.settle(ServiceReady(endpoints=()), "web")
    record = DeployedService(
        service="web", namespace="default", objects=tuple(applied), timeout=10,
        references={"web": "localhost/web:1f"},
    )  # fmt: skip
    run.write(record, "web")
    stack = Stack(run, waits=False, folder=tmp_path, current=lambda: current)
    yield stack
    stack.close()


def labelled(obj: KubeObject) -> KubeObject:
    return rewrite(obj, images={}, namespace=None, labels={SERVICE_LABEL: "web"})


def k8s_service(name: str) -> KubeObject:
    spec = {"selector": {SERVICE_LABEL: name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

"""In an existing cluster a test changes only what this run has made."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube import routes
from pytest_kindinfra.kube.cluster import marked
from pytest_kindinfra.session.freshness import Freshness
from pytest_kindinfra.state.records import Change, DeployedService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kindinfra.intests.changes import CurrentTest
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.directory import RunDirectory
    from tests.fake_kubernetes import FakeKubernetes

WEB = "/apis/apps/v1/namespaces/default/deployments/web"
ROLE = "/apis/rbac.authorization.k8s.io/v1/clusterroles/reader"
MODULE = "kindinfra_steps_of_others"
ACTIONS: dict[str, Callable[[Stack], object]] = {
    "restart": lambda stack: stack.restart("web"),
    "scale": lambda stack: stack.scale("web", 2),
    "delete_pods": lambda stack: stack.delete_pods("web"),
}
REFUSED = (
    'service "web": deployment/web was in the cluster before this run, so it is not changed\n'
    "To fix: deploy it under another name, or in another namespace ([cluster] namespace)"
)


@pytest.fixture(autouse=True)
def no_pause_for_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_BETWEEN_SYNCS", 0.05)


@pytest.fixture
def shared(
    stack: Stack, run: RunDirectory, tmp_path: Path, current: CurrentTest
) -> Iterator[Stack]:
    """The stack of the run as in a cluster of others, to whom its service belongs."""
    with closing(stack):
        found = Stack(run, waits=False, shared=True, folder=tmp_path, current=lambda: current)
        with closing(found):
            yield found


def state(fake: FakeKubernetes) -> tuple[KubeObject, list[str]]:
    """Return the Deployment and the uids of its pods."""
    return fake.objects[WEB]["spec"], sorted(pod["metadata"]["uid"] for pod in fake.pods_of("web"))


def renew(run: RunDirectory, folder: Path) -> None:
    with closing(Freshness(run, shared=True, folder=folder, test="test_it")) as freshness:
        freshness.renew(["web"])


@pytest.mark.parametrize("action", ACTIONS)
def test_a_workload_that_was_there_before_is_not_changed_by(
    action: str, shared: Stack, fake: FakeKubernetes
) -> None:
    before = state(fake)

    with pytest.raises(KindInfraError) as caught:
        ACTIONS[action](shared)
    shared.undo_own()

    assert str(caught.value) == REFUSED
    assert state(fake) == before


@pytest.mark.usefixtures("shared")
def test_a_workload_that_was_there_before_is_not_made_fresh(
    run: RunDirectory, fake: FakeKubernetes, tmp_path: Path
) -> None:
    before = state(fake)

    with pytest.raises(KindInfraError) as caught:
        renew(run, tmp_path)

    assert str(caught.value) == REFUSED
    assert state(fake) == before
    assert run.names(Change) == []


def test_a_workload_of_this_run_is_restarted(shared: Stack, fake: FakeKubernetes) -> None:
    fake.objects[WEB] = marked(fake.objects[WEB], shared.run_id)
    before = state(fake)

    shared.restart("web")

    assert set(before[1]).isdisjoint(state(fake)[1])


@pytest.mark.usefixtures("shared")
def test_a_fresh_step_takes_no_object_of_others(
    run: RunDirectory, fake: FakeKubernetes, tmp_path: Path
) -> None:
    """It used to take over every field of the object by force."""
    fake.put(role("get"))
    (tmp_path / f"{MODULE}.py").write_text(f"def make(stack):\n    return {role('list')!r}\n")
    record = run.read(DeployedService, "web")
    assert record
    run.write(replace(record, run=f"{MODULE}:make", objects=()), "web")

    with pytest.raises(KindInfraError, match="exists in the cluster and is not as declared"):
        renew(run, tmp_path)

    assert fake.objects[ROLE]["rules"] == [{"verbs": ["get"]}]


def role(verb: str) -> KubeObject:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [{"verbs": [verb]}],
    }

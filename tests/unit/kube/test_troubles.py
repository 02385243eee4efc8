"""What is deleted while objects are waited for: broken old pods, of our own objects alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube.cluster import Kube, SharedKube, marked
from pytest_kindinfra.kube.portforward import Forwards
from pytest_kindinfra.kube.troubles import Leniency, Troubles
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from tests.fake_kubernetes import FakeKubernetes

RUN = "20261126-1"
POD = "/api/v1/namespaces/default/pods/db-0"


def stateful_set() -> KubeObject:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "uid": "uid-of-db", "generation": 1},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "updateRevision": "db-new", "replicas": 1},
    }


def broken_pod(revision: str = "db-old", **meta: Any) -> KubeObject:
    waiting = {"reason": "ImagePullBackOff", "message": "manifest unknown: not found"}
    owner = {"kind": "StatefulSet", "name": "db", "uid": "uid-of-db", "controller": True}
    labels = {"controller-revision-hash": revision}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "db-0", "labels": labels, "ownerReferences": [owner], **meta},
        "spec": {"containers": [{"name": "main", "image": "db:1"}]},
        "status": {
            "phase": "Pending",
            "containerStatuses": [
                {"name": "main", "restartCount": 0, "state": {"waiting": waiting}}
            ],
        },
    }


@pytest.fixture
def shared(fake: FakeKubernetes, tmp_path: Path) -> Iterator[SharedKube]:
    kubeconfig = fake.write_kubeconfig(tmp_path / "shared")
    forwards = Forwards(kubeconfig)
    kube = SharedKube(kubeconfig, RUN, forwards)
    yield kube
    kube.close()
    forwards.close()


def clear(kube: Kube, obj: KubeObject) -> None:
    watch = kube.watch("default")
    assert eventually(lambda: bool(watch.pods()[1]))
    Troubles(kube, Leniency(restarts=0)).clear_the_way(obj)


def test_in_a_cluster_of_others_the_pods_of_their_rollout_stay(
    shared: SharedKube, fake: FakeKubernetes
) -> None:
    """A pod of others was deleted in the middle of its owner's rollout."""
    there = fake.put(stateful_set())
    fake.put(broken_pod())

    clear(shared, there)

    assert fake.deletions == []


def test_those_of_an_object_of_this_run_are_deleted(
    shared: SharedKube, fake: FakeKubernetes
) -> None:
    there = fake.put(marked(stateful_set(), RUN))
    fake.put(broken_pod())

    clear(shared, there)

    assert [path for path, _ in fake.deletions] == [POD]


def test_in_a_cluster_of_this_run_they_are_deleted(kube: Kube, fake: FakeKubernetes) -> None:
    there = fake.put(stateful_set())
    fake.put(broken_pod())

    clear(kube, there)

    assert [path for path, _ in fake.deletions] == [POD]
    assert POD not in fake.objects


def test_a_pod_that_was_replaced_meanwhile_stays(kube: Kube, fake: FakeKubernetes) -> None:
    there = fake.put(stateful_set())
    fake.put(broken_pod())
    fake.before_deletion = lambda _: fake.put(broken_pod(revision="db-new", uid="another"))

    clear(kube, there)

    assert fake.objects[POD]["metadata"]["uid"] == "another"

"""A cluster that comes up: what is waited for, and what is said if it does not come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.kube.cluster import Kube
    from tests.fake_kubernetes import FakeKubernetes

TEAM = "/api/v1/namespaces/team"


def node(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    told = [{"type": kind, "status": status, "message": text} for kind, status, text in conditions]
    head = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    return {**head, "status": {"conditions": told}}


def lack(wait: Callable[[Deadline], None]) -> str:
    """Return what a wait says that is missing, empty if there is all."""
    try:
        wait(Deadline.after(0))
    except ClusterError as error:
        return str(error).partition(" within 0 s: ")[2] or str(error)
    return ""


def test_a_cluster_that_is_up_costs_one_request_each(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    kube.wait_for_api(soon)
    kube.wait_for_nodes(soon)
    kube.wait_for_dns(soon)

    assert len(fake.requests) == 3


def test_an_api_server_that_starts_is_waited_for(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    fake.fail("GET", "/readyz", 0)
    fake.fail("GET", "/readyz", 500, "[-]etcd failed")

    kube.wait_for_api(soon)


def test_an_api_server_that_does_not_start_is_told_with_its_last_answer(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.fail("GET", "/readyz", 500, "[-]etcd failed", times=99)

    with pytest.raises(ClusterError) as caught:
        kube.wait_for_api(Deadline.after(0.15))

    assert str(caught.value) == (
        "the API server is not ready within 0.15 s: GET /readyz: [-]etcd failed (500 Faked)"
    )


@pytest.mark.parametrize(
    ("nodes", "missing"),
    [
        ([node(("Ready", "True", ""))], ""),
        ([], "there is no node"),
        ([node()], 'node "n1" is not Ready (no conditions yet)'),
        (
            [
                node(
                    ("DiskPressure", "True", "disk full"), ("Ready", "False", "cni not initialized")
                )
            ],
            'node "n1" is not Ready (DiskPressure: disk full; Ready: cni not initialized)',
        ),
    ],
)
def test_it_is_said_what_the_nodes_lack(
    nodes: list[dict[str, Any]], missing: str, kube: Kube, fake: FakeKubernetes
) -> None:
    for path in [path for path in fake.objects if "/nodes/" in path]:
        fake.delete(path)
    for one in nodes:
        fake.put(one)

    assert lack(kube.wait_for_nodes) == missing


@pytest.mark.parametrize(
    ("endpoints", "missing"),
    [
        ([{"conditions": {"ready": True}}], ""),
        ([{"conditions": {}}], ""),
        (None, "the service kube-dns has 0 endpoints, none of them ready"),
        (
            [{"conditions": {"ready": False}}],
            "the service kube-dns has 1 endpoints, none of them ready",
        ),
    ],
)
def test_it_is_said_what_dns_lacks(
    endpoints: list[dict[str, Any]] | None, missing: str, kube: Kube, fake: FakeKubernetes
) -> None:
    (path,) = [path for path in fake.objects if "kube-dns-1" in path]
    fake.objects[path]["endpoints"] = endpoints

    assert lack(kube.wait_for_dns) == missing


def test_a_cluster_without_dns_does_not_wait_for_it(kube: Kube, fake: FakeKubernetes) -> None:
    for path in [path for path in fake.objects if "kube-dns" in path]:
        fake.delete(path)

    kube.wait_for_dns(Deadline.after(0.2))


def test_dns_without_endpoints_is_waited_for_and_told_with_the_limit(
    kube: Kube, fake: FakeKubernetes
) -> None:
    for path in [path for path in fake.objects if "kube-dns-1" in path]:
        fake.delete(path)

    with pytest.raises(ClusterError, match=r"DNS is not ready within 0\.2 s \(--kindinfra-timeout"):
        kube.wait_for_dns(Deadline.after(0.2, option="--kindinfra-timeout"))


def test_a_namespace_is_made_with_its_labels(kube: Kube, soon: Deadline) -> None:
    kube.ensure_namespace("team", soon, {"kindinfra/run": "r1"})

    made = kube.get(TEAM)
    assert made
    assert made["metadata"]["labels"] == {"kindinfra/run": "r1"}


def test_a_namespace_that_is_there_is_left_as_it_is(kube: Kube, soon: Deadline) -> None:
    kube.ensure_namespace("default", soon, {"kindinfra/run": "r1"})

    found = kube.get("/api/v1/namespaces/default")
    assert found
    assert "labels" not in found["metadata"]


def test_a_namespace_is_ready_with_its_default_service_account(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.fail("GET", "/serviceaccounts/default", 404, times=99)

    with pytest.raises(ClusterError, match='"team" got no default service account'):
        kube.ensure_namespace("team", Deadline.after(0.1), {})


def test_a_namespace_that_is_ending_is_made_anew(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    kube.ensure_namespace("team", soon, {"old": "yes"})
    fake.objects[TEAM]["status"] = {"phase": "Terminating"}
    threading.Timer(0.1, fake.delete, [TEAM]).start()

    kube.ensure_namespace("team", soon, {"new": "yes"})

    assert fake.objects[TEAM]["metadata"]["labels"] == {"new": "yes"}


def test_a_namespace_that_is_gone_can_be_deleted(kube: Kube, soon: Deadline) -> None:
    kube.ensure_namespace("team", soon, {})

    kube.delete_namespace("team")
    kube.delete_namespace("team")

    assert kube.get(TEAM) is None

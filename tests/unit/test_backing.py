"""Which k8s services are waited for, and what one lacks that nobody is behind."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_kindinfra.kube.pods import is_backed, lack_of_pods

TEMPLATE = {"metadata": {"labels": {"app": "api", "tier": "web"}}}


def k8s_service(**selector: str) -> dict[str, Any]:
    spec = {"selector": selector} if selector else {}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"}, "spec": spec}


def workload(kind: str = "Deployment", *, namespace: str = "", **spec: Any) -> dict[str, Any]:
    meta = {"name": "api", "namespace": namespace}
    spec = {"template": TEMPLATE, **spec}
    version = {"Job": "batch/v1", "Pod": "v1"}.get(kind, "apps/v1")
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


def named_elsewhere() -> dict[str, Any]:
    """Return a k8s service of which the cluster follows no pods, whatever it selects."""
    made = k8s_service(app="api")
    return {**made, "spec": {**made["spec"], "type": "ExternalName", "externalName": "x.test"}}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
def test_a_k8s_service_with_pods_of_the_same_service_is_waited_for(kind: str) -> None:
    assert is_backed(k8s_service(app="api"), [workload("Job"), workload(kind)])


def test_a_bare_pod_counts_by_its_own_labels() -> None:
    pod = workload("Pod")
    pod["metadata"]["labels"] = {"app": "api"}

    assert is_backed(k8s_service(app="api"), [pod])


@pytest.mark.parametrize(
    ("service", "other"),
    [
        (k8s_service(), workload()),
        (k8s_service(app="other"), workload()),
        (k8s_service(app="api", role="primary"), workload()),  # set while the pod runs
        (k8s_service(app="api"), workload(replicas=0)),
        (k8s_service(app="api"), workload("Job")),
        (k8s_service(app="api"), workload("DaemonSet")),  # which may fit nowhere
        (k8s_service(app="api"), workload(namespace="elsewhere")),
        ({**k8s_service(app="api"), "apiVersion": "serving.knative.dev/v1"}, workload()),
        (workload(), workload()),
        (named_elsewhere(), workload()),
    ],
)
def test_others_are_not_waited_for(service: dict[str, Any], other: dict[str, Any]) -> None:
    assert not is_backed(service, [other])


def endpoints(*ready: str) -> list[dict[str, Any]]:
    return [{"endpoints": [{"conditions": {"ready": one == "yes"}} for one in ready]}]


@pytest.mark.parametrize(
    ("slices", "lack"),
    [
        (endpoints("no", "yes"), ""),
        ([{"endpoints": [{"addresses": ["10.0.0.1"]}]}], ""),
        (endpoints("no", "no"), "0 of 2 pods behind it ready"),
        (endpoints(), "no pod behind it (it selects app=api, tier=web)"),
        ([{"endpoints": None}], "no pod behind it (it selects app=api, tier=web)"),
        ([], "no pod behind it (it selects app=api, tier=web)"),
    ],
)
def test_it_is_said_what_a_k8s_service_lacks(slices: list[dict[str, Any]], lack: str) -> None:
    assert lack_of_pods(k8s_service(tier="web", app="api"), slices) == lack

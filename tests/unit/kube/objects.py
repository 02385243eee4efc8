"""The Kubernetes objects that these tests apply, with as little in them as will do."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindinfra.model import KubeObject
    from tests.fake_kubernetes import FakeKubernetes


def config_map(name: str = "settings", **data: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def workload(kind: str = "Deployment", name: str = "api", **spec: Any) -> KubeObject:
    version = "batch/v1" if kind == "Job" else "apps/v1"
    template = {"spec": {"containers": [{"name": "main", "image": "api:1"}]}}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def crd() -> KubeObject:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{"name": "v1"}],
        },
    }


def gadget() -> KubeObject:
    return {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "one"}}


def end_soon(fake: FakeKubernetes, tail: str) -> KubeObject:
    """Have an object be as one whose deletion was asked for: it is there for a moment yet."""
    (path,) = [path for path in fake.objects if path.endswith(tail)]
    stored = fake.objects[path]
    stored["metadata"]["deletionTimestamp"] = "2026-11-26T12:00:00Z"
    threading.Timer(0.2, fake.delete, [path]).start()
    return {**stored, "metadata": dict(stored["metadata"])}

"""Whether a k8s service has pods behind it: a connection to one that has none is refused.

Only a k8s service whose pods the same service brings is waited for. Others may be meant for pods
that a test makes, or whose labels are set while they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.podspecs import group, pod_templates
from pytest_kindinfra.workloads.pods import pods_wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kindinfra.model import KubeObject

SERVICE_NAME = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its k8s service."""

_LASTING = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Pod"})
"""Kinds that are known to have pods as long as they are there: a DaemonSet may fit nowhere."""


def is_k8s_service(obj: KubeObject) -> bool:
    """Whether the object is Kubernetes' own Service."""
    return obj.get("kind") == "Service" and not group(obj)


def is_backed(obj: KubeObject, objects: Iterable[KubeObject]) -> bool:
    """Whether the object is a k8s service that selects pods which one of `objects` makes."""
    spec = obj.get("spec") or {}
    selects = bool(spec.get("selector")) and spec.get("type") != "ExternalName"
    return is_k8s_service(obj) and selects and any(_makes(one, obj) for one in objects)


def lack_of_pods(obj: KubeObject, slices: Sequence[KubeObject]) -> str:
    """Say what a k8s service lacks, by its EndpointSlices; nothing if a pod of it is ready."""
    endpoints = [entry for one in slices for entry in one.get("endpoints") or ()]
    ready = [one for one in endpoints if (one.get("conditions") or {}).get("ready", True)]
    if ready:
        return ""
    if endpoints:
        return f"0 of {len(endpoints)} pods behind it ready"
    wanted = (obj.get("spec") or {}).get("selector") or {}
    labels = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    return f"no pod behind it (it selects {labels or 'none'})"


def _makes(workload: KubeObject, k8s_service: KubeObject) -> bool:
    if workload.get("kind") not in _LASTING or not pods_wanted(workload):
        return False
    if _namespace(workload) != _namespace(k8s_service):
        return False
    wanted = k8s_service["spec"]["selector"].items()
    return any(
        wanted <= ((template.get("metadata") or {}).get("labels") or {}).items()
        for template in pod_templates(workload)
    )


def _namespace(obj: KubeObject) -> str:
    return str(obj["metadata"].get("namespace") or "")

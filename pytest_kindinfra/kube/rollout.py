"""Restart workloads, as `kubectl rollout restart` does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.system.timeline import now

if TYPE_CHECKING:
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject


RESTARTED = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
"""The kinds that make new pods when their pod template changes."""


_ANNOTATION = "kubectl.kubernetes.io/restartedAt"


def restart_workload(kube: Kube, obj: KubeObject) -> None:
    """Have a workload replace its pods; the new ones are not waited for.

    Args:
        kube: The cluster.
        obj: Of one of the kinds `RESTARTED`; kind, name and namespace are enough.

    Raises:
        ClusterError: It is gone.
    """
    path = kube.path_of(obj, namespace="")
    if kube.get(path) is None:
        msg = f"{obj['kind']} {obj['metadata']['name']} is gone\nTo fix: kindinfra up"
        raise ClusterError(msg)
    annotations = {_ANNOTATION: datetime.fromtimestamp(now(), UTC).isoformat()}
    body = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    kube.request("PATCH", path, body=body, content_type="application/merge-patch+json")

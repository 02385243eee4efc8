"""Where pods are described in Kubernetes' built-in kinds, and what runs in them.

Custom resources are left alone, whatever their kind is called: `imagepaths.py` is for them. Pure;
works on parsed objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.model import KubeObject

WORKLOAD_KINDS = {
    "deployment": "Deployment",
    "statefulset": "StatefulSet",
    "daemonset": "DaemonSet",
    "replicaset": "ReplicaSet",
    "pod": "Pod",
}
"""What an endpoint's `workload` may begin with, and the kind that it means."""

_TEMPLATE_PATHS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "ReplicationController"): ("spec", "template"),
    ("", "PodTemplate"): ("template",),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}


def group(obj: KubeObject) -> str:
    """Return the API group of an object; the core group's name is empty."""
    head, slash, _ = str(obj.get("apiVersion", "")).partition("/")
    return head if slash else ""


def pod_templates(obj: KubeObject) -> Iterator[dict[str, Any]]:
    """Yield each part of `obj` that has a pod's `metadata` and `spec`; a Pod is one itself."""
    path = _TEMPLATE_PATHS.get((group(obj), str(obj.get("kind"))))
    if path is None:
        return
    template: Any = obj
    for key in path:
        template = template.get(key) if isinstance(template, dict) else None
    if isinstance(template, dict):
        yield template


def pod_specs(obj: KubeObject) -> Iterator[dict[str, Any]]:
    """Yield each pod spec of `obj`."""
    for template in pod_templates(obj):
        spec = template.get("spec")
        if isinstance(spec, dict):
            yield spec


def containers(obj: KubeObject) -> Iterator[dict[str, Any]]:
    """Yield each init container and container of `obj`, in the order in which they start."""
    for spec in pod_specs(obj):
        for key in ("initContainers", "containers"):
            for container in spec.get(key) or ():
                if isinstance(container, dict):
                    yield container


def image_references(obj: KubeObject) -> list[str]:
    """Return the image references of `obj` as written, each once, in order."""
    found = [container.get("image") for container in containers(obj)]
    return list(dict.fromkeys(image for image in found if isinstance(image, str) and image))

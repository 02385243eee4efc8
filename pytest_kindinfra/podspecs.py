"""Where pods are described in Kubernetes' built-in kinds, and what runs in them.

Custom resources are left alone, whatever their kind is called: `imagepaths.py` is for them. Pure;
works on parsed objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


class ImageField(NamedTuple):
    """A place for an image reference.

    Attributes:
        table: What the key is in.
        key: The reference's key.
        policy: The key of the pull policy beside it; None where there is none.
    """

    table: dict[str, Any]
    key: str
    policy: str | None


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
    """Yield each init container and container of `obj`, in the order in which they start.

    A pod of the cluster may have ephemeral containers as well.
    """
    for spec in pod_specs(obj):
        for key in ("initContainers", "containers", "ephemeralContainers"):
            for container in spec.get(key) or ():
                if isinstance(container, dict):
                    yield container


def image_volumes(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the source of each volume of a pod's spec that is an image."""
    for volume in spec.get("volumes") or ():
        source = volume.get("image") if isinstance(volume, dict) else None
        if isinstance(source, dict):
            yield source


def image_fields(obj: KubeObject) -> Iterator[ImageField]:
    """Yield where `obj` names images: in its containers, then in the volumes of its pods."""
    for container in containers(obj):
        yield ImageField(container, "image", "imagePullPolicy")
    for spec in pod_specs(obj):
        for source in image_volumes(spec):
            yield ImageField(source, "reference", "pullPolicy")


def image_references(obj: KubeObject) -> list[str]:
    """Return the image references of `obj` as written, each once, in order."""
    return written_references(image_fields(obj))


def written_references(fields: Iterable[ImageField]) -> list[str]:
    """Return what is written in fields, each once, in order; what is no text is left out."""
    found = (field.table.get(field.key) for field in fields)
    return list(dict.fromkeys(image for image in found if isinstance(image, str) and image))

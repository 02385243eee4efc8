"""What manifests say: their objects, in which order to apply them, and their nodePorts.

Pure; works on text and parsed objects, and must not know files or clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.kubeyaml import load_documents
from pytest_kindinfra.podspecs import group

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.model import KubeObject, Release

_RANKS = (
    ("Namespace",),
    ("CustomResourceDefinition",),
    (
        *("PriorityClass", "StorageClass", "RuntimeClass", "ResourceQuota", "LimitRange"),
        *("ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"),
        *("ConfigMap", "Secret", "PersistentVolume", "PersistentVolumeClaim"),
        *("Service", "Endpoints", "EndpointSlice", "NetworkPolicy", "PodDisruptionBudget"),
    ),
    (
        *("Pod", "ReplicationController", "Deployment", "StatefulSet", "DaemonSet"),
        *("ReplicaSet", "Job", "CronJob"),
    ),
)
_RANK_OF = {kind: rank for rank, kinds in enumerate(_RANKS) for kind in kinds}
# A webhook refuses objects until its pod answers, so it comes when all else is there.
_LAST = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of all declared services.

    Attributes:
        objects: Service to its objects in applying order; a service whose manifests have a
            problem is missing, since nothing can be said of what it lacks.
        problems: One sentence for each problem.
        releases: Service to its chart, whose objects are among `objects` too.
    """

    objects: dict[str, tuple[KubeObject, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    releases: dict[str, Release] = field(default_factory=dict)


class Written(dict[str, Any]):
    """An object as it was read, which knows its place: `web.yaml, document 2`."""

    __slots__ = ("place",)

    def __init__(self, obj: KubeObject, place: str) -> None:
        super().__init__(obj)
        self.place = place


def place_of(obj: KubeObject) -> str:
    """Return where an object was read, empty if that is not known."""
    return obj.place if isinstance(obj, Written) else ""


class NodePort(NamedTuple):
    """A nodePort that a k8s service asks for: service, port, the port's name, the nodePort."""

    service: str
    port: int
    name: str
    node_port: int
    protocol: str


def parse_objects(text: str, *, source: str) -> tuple[list[KubeObject], list[str]]:
    """Return the objects of a YAML stream, lists taken apart, and the problems found.

    Args:
        text: Any number of documents.
        source: The file's name for problems.
    """
    objects: list[KubeObject] = []
    problems: list[str] = []
    try:
        for number, document in enumerate(load_documents(text), start=1):
            for obj in flattened(document):
                if fault := _fault(obj):
                    problems.append(f"{source}: document {number} {fault}")
                else:
                    objects.append(Written(obj, f"{source}, document {number}"))
    except ValueError as error:
        problems.append(f"{source}: {error}")
    return objects, problems


def flattened(document: Any) -> Iterator[Any]:
    """Yield what a document holds: the items of a list, or itself unless it is empty."""
    if document is None:
        return
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        items = document.get("items")
        if isinstance(items, list):
            for item in items:
                yield from flattened(item)
            return
    yield document


def _fault(obj: Any) -> str:
    if not isinstance(obj, dict):
        return "is no Kubernetes object"
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    values = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata.name": name}
    missing = [key for key, value in values.items() if not isinstance(value, str) or not value]
    kind = f"({obj['kind']}) " if isinstance(obj.get("kind"), str) else ""
    return f"{kind}has no {' and no '.join(missing)}" if missing else ""


def is_builtin(obj: KubeObject) -> bool:
    """Whether the kind is Kubernetes' own, not one that a CRD defines."""
    name = group(obj)
    return "." not in name or name.endswith(".k8s.io")


def applying_order(objects: Iterable[KubeObject]) -> list[KubeObject]:
    """Sort by kind, so that what others need comes first; within a kind order stays as it is."""
    return sorted(objects, key=_rank)


def _rank(obj: KubeObject) -> int:
    if obj["kind"] in _LAST:
        return len(_RANKS) + 1
    return _RANK_OF.get(obj["kind"], len(_RANKS)) if is_builtin(obj) else len(_RANKS)


def node_ports(obj: KubeObject) -> list[NodePort]:
    """Return the nodePorts that `obj` asks for by number."""
    if obj["kind"] != "Service" or group(obj):
        return []
    name = str(obj["metadata"]["name"])
    return [
        NodePort(
            service=name,
            port=entry["port"],
            name=str(entry.get("name", "")),
            node_port=entry["nodePort"],
            protocol=str(entry.get("protocol", "TCP")),
        )
        for entry in service_ports(obj)
        if isinstance(entry.get("nodePort"), int) and isinstance(entry.get("port"), int)
    ]


def service_ports(k8s_service: KubeObject) -> list[dict[str, Any]]:
    """Return the ports of a k8s service as written."""
    ports = (k8s_service.get("spec") or {}).get("ports") or ()
    return [entry for entry in ports if isinstance(entry, dict)]

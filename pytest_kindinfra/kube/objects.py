"""Objects as data: parsed manifests, their order, pod templates, differences. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.kube.yaml import load_documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.model import KubeObject, Release


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
        policy: The key of the pull policy next to it; None where there is none.
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


def first_differences(first: Any, second: Any, *, limit: int) -> list[str]:
    """Return the first places at which they differ: `spec.versions[0].served`."""
    return [place.removeprefix(".") for place in islice(_differences(first, second, ""), limit)]


def _differences(first: Any, second: Any, place: str) -> Iterator[str]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in dict.fromkeys((*first, *second)):
            yield from _differences(first.get(key), second.get(key), f"{place}.{key}")
    elif isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for number, (left, right) in enumerate(zip(first, second, strict=True)):
            yield from _differences(left, right, f"{place}[{number}]")
    elif first != second:
        yield place


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


_SET_BY_SERVER = (
    *("uid", "resourceVersion", "selfLink", "creationTimestamp", "generation", "managedFields"),
)


_NOT_APPLIED = frozenset(
    {*_SET_BY_SERVER, "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences"}
)


_JOB_LABELS = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "batch.kubernetes.io/")
    for name in ("controller-uid", "job-name")
)


_HELM_SEPARATOR = re.compile(r"^---[ \t]*\n", re.MULTILINE)


_HELM_SOURCE = re.compile(r"^# Source: (\S+)", re.MULTILINE)


_CLUSTER_SCOPED = frozenset(
    {
        *(("", kind) for kind in ("Namespace", "Node", "PersistentVolume")),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
        ("networking.k8s.io", "IngressClass"),
        ("node.k8s.io", "RuntimeClass"),
        *(("rbac.authorization.k8s.io", kind) for kind in ("ClusterRole", "ClusterRoleBinding")),
        ("scheduling.k8s.io", "PriorityClass"),
        *(("storage.k8s.io", kind) for kind in ("CSIDriver", "CSINode", "StorageClass")),
        *(
            ("admissionregistration.k8s.io", f"{kind}{tail}")
            for kind, tails in (
                ("ValidatingWebhook", ("Configuration",)),
                ("MutatingWebhook", ("Configuration",)),
                ("ValidatingAdmissionPolicy", ("", "Binding")),
                ("MutatingAdmissionPolicy", ("", "Binding")),
            )
            for tail in tails
        ),
        *(
            ("flowcontrol.apiserver.k8s.io", kind)
            for kind in ("FlowSchema", "PriorityLevelConfiguration")
        ),
    }
)


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
    """An object that was read from a file, and knows which.

    Attributes:
        place: `web.yaml, document 2`, or `chart "web", templates/web.yaml`.
    """

    def __init__(self, obj: Any = (), *, place: str = "") -> None:
        super().__init__(obj)
        self.place = place


def place_of(obj: KubeObject) -> str:
    """Return the file that an object was read from, and where in it; empty if that is not known."""
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
    places = dict(enumerate(_templates(text, source), start=1))
    try:
        for number, document in enumerate(load_documents(text), start=1):
            for obj in flattened(document):
                if fault := _fault(obj):
                    problems.append(f"{source}: document {number} {fault}")
                else:
                    place = places.get(number, f"{source}, document {number}")
                    objects.append(Written(cleaned(obj), place=place))
    except ValueError as error:
        problems.append(f"{source}: {error}")
    return objects, problems


def _templates(text: str, source: str) -> Iterator[str]:
    """Yield the place of each document that helm rendered: it says which template made it."""
    place = ""
    for part in _HELM_SEPARATOR.split(text)[1:] if _HELM_SOURCE.search(text) else ():
        if found := _HELM_SOURCE.match(part):
            place = f"{source}, {found[1].partition('/')[2]}"
        yield place or source


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


def cleaned(obj: KubeObject) -> KubeObject:
    """Return an object without what only the cluster that it was exported from can know.

    `kubectl get -o yaml` prints uids, versions and addresses; in another cluster they are refused,
    or lead to missing objects: an object whose owner is missing is deleted at once.
    """
    metadata = obj["metadata"]
    exported = any(metadata.get(key) for key in _SET_BY_SERVER)
    made = {**obj, "metadata": {k: v for k, v in metadata.items() if k not in _NOT_APPLIED}}
    if exported or is_builtin(obj):
        made.pop("status", None)
    spec = made.get("spec")
    if exported and isinstance(spec, dict):
        made["spec"] = _without_addresses(made["kind"], spec) if not group(obj) else spec
        if (group(obj), obj["kind"]) == ("batch", "Job"):
            made["spec"] = _without_job_labels(spec)
    return made


def _without_addresses(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of an exported Pod or k8s service without what the old cluster chose."""
    if kind == "Pod":
        return {k: v for k, v in spec.items() if k not in {"nodeName", "ephemeralContainers"}}
    if kind == "Service" and spec.get("clusterIP") not in {None, "", "None"}:
        chosen = {"clusterIP", "clusterIPs", "healthCheckNodePort"}
        return {k: v for k, v in spec.items() if k not in chosen}
    return spec


def _without_job_labels(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of an exported Job without the selector that its old cluster made."""
    if spec.get("manualSelector"):
        return spec
    made = {key: value for key, value in spec.items() if key != "selector"}
    template = made.get("template")
    metadata = template.get("metadata") if isinstance(template, dict) else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    if isinstance(metadata, dict) and isinstance(labels, dict):
        kept = {key: value for key, value in labels.items() if key not in _JOB_LABELS}
        made["template"] = {**made["template"], "metadata": {**metadata, "labels": kept}}
    return made


def _fault(obj: Any) -> str:
    if not isinstance(obj, dict):
        return "is no Kubernetes object"
    metadata = obj.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    values = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata.name": name}
    missing = [key for key, value in values.items() if not isinstance(value, str) or not value]
    kind = f"({obj['kind']}) " if isinstance(obj.get("kind"), str) else ""
    return f"{kind}has no {' and no '.join(missing)}" if missing else ""


def is_hook(obj: KubeObject) -> bool:
    """Whether helm itself runs the object at some moment, and waits for it."""
    return "helm.sh/hook" in (obj["metadata"].get("annotations") or {})


def is_builtin(obj: KubeObject) -> bool:
    """Whether the kind is Kubernetes' own, not one that a CRD defines."""
    name = group(obj)
    return "." not in name or name.endswith(".k8s.io")


class Identity(NamedTuple):
    """What makes an object the same one in the cluster, whatever is in it."""

    group: str
    kind: str
    namespace: str
    name: str


def custom_cluster_scoped(objects: Iterable[KubeObject]) -> frozenset[tuple[str, str]]:
    """Return group and kind of what CRDs among the objects define without a namespace."""
    specs = (obj.get("spec") for obj in objects if obj["kind"] == "CustomResourceDefinition")
    return frozenset(
        (str(spec.get("group")), str((spec.get("names") or {}).get("kind")))
        for spec in specs
        if isinstance(spec, dict) and spec.get("scope") == "Cluster"
    )


def identity_of(
    obj: KubeObject, *, namespace: str, cluster_scoped: frozenset[tuple[str, str]] = frozenset()
) -> Identity:
    """Return which object of the cluster `obj` is.

    Args:
        obj: An object.
        namespace: Where objects go that name none.
        cluster_scoped: Group and kind of custom resources that have no namespace.
    """
    kind, metadata = (group(obj), str(obj["kind"])), obj["metadata"]
    scoped = kind in _CLUSTER_SCOPED or kind in cluster_scoped
    where = "" if scoped else str(metadata.get("namespace") or namespace)
    return Identity(*kind, where, str(metadata["name"]))


def is_same_content(first: KubeObject, second: KubeObject) -> bool:
    """Whether two spellings of one object say the same, but for a namespace that may be missing."""
    first_content, second_content = (
        {**obj, "metadata": {k: v for k, v in obj["metadata"].items() if k != "namespace"}}
        for obj in (first, second)
    )
    return first_content == second_content


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

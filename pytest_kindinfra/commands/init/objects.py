"""Services from objects: which files belong together, ports, health checks, needs. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.commands.init.draft import DraftService
from pytest_kindinfra.commands.init.scan import Manifest, label
from pytest_kindinfra.kube.objects import (
    WORKLOAD_KINDS,
    containers,
    image_references,
    pod_specs,
    pod_templates,
    service_ports,
)
from pytest_kindinfra.kube.targets import selector
from pytest_kindinfra.references import is_bare_or_local, last_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_kindinfra.model import KubeObject


_WORKLOADS = frozenset((*WORKLOAD_KINDS.values(), "Job", "CronJob"))


_HTTP_PORTS = frozenset((80, 3000, 5000, 8000, 8080, 8081, 8888))


_HTTPS_PORTS = frozenset((443, 8443))


_USES = re.compile(
    r'"(?:configMapKeyRef|configMapRef|configMap|secretKeyRef|secretRef|secret|persistentVolumeClaim)"'
    r': \{[^{}]*"(?:name|secretName|claimName)": "([^"]+)"|"serviceAccountName": "([^"]+)"'
)


@dataclass(slots=True)
class Grouped:
    """Files that make one service."""

    files: list[Manifest] = field(default_factory=list)

    @property
    def objects(self) -> list[KubeObject]:
        """All their objects."""
        return [obj for file in self.files for obj in file.objects]


def group_manifests(manifests: Iterable[Manifest]) -> tuple[dict[str, Grouped], list[str]]:
    """Return service to its files, and a note for each file that belongs to none.

    A file with a workload makes a service. A file without one goes to the service that selects,
    mounts or names what is in it.
    """
    groups: dict[str, Grouped] = {}
    rest: list[Manifest] = []
    for manifest in manifests:
        workloads = [obj for obj in manifest.objects if obj.get("kind") in _WORKLOADS]
        if not workloads:
            rest.append(manifest)
            continue
        stem = manifest.path.rpartition("/")[2].rpartition(".")[0]
        name = label(workloads[0]["metadata"]["name"] if len(workloads) == 1 else stem)
        groups.setdefault(name, Grouped()).files.append(manifest)
    notes = []
    for manifest in rest:
        if owner := _owner(manifest, groups):
            groups[owner].files.insert(0, manifest)
        else:
            titles = [
                f"{obj.get('kind')} {obj['metadata'].get('name')}" for obj in manifest.objects
            ]
            notes.append(f"not used, since no workload names it: {manifest.path} ({titles[0]})")
    return groups, notes


def _owner(manifest: Manifest, groups: Mapping[str, Grouped]) -> str | None:
    for name, grouped in groups.items():
        workloads = [obj for obj in grouped.objects if obj.get("kind") in _WORKLOADS]
        used = {
            word for obj in workloads for pair in _USES.findall(json.dumps(obj)) for word in pair
        }
        for obj in manifest.objects:
            if obj.get("kind") == "Service":
                if any(_selects(obj, workload) for workload in workloads):
                    return name
            elif obj["metadata"].get("name") in used:
                return name
    return None


def _selects(k8s_service: KubeObject, workload: KubeObject) -> bool:
    wanted = selector(k8s_service).items()
    labels = [(one.get("metadata") or {}).get("labels") or {} for one in pod_templates(workload)]
    return bool(wanted) and any(wanted <= one.items() for one in labels)


def service_of(
    name: str, keys: Mapping[str, Any], objects: list[KubeObject], images: Iterable[str]
) -> DraftService:
    """Return a service for objects.

    Args:
        name: Its name.
        keys: Where the objects come from: `manifests`, `kustomize` or `helm`.
        objects: What is known of them; nothing for a chart.
        images: The declared images.
    """
    known = set(images)
    used = list(
        dict.fromkeys(
            last_part(reference)
            for obj in objects
            for reference in image_references(obj)
            if is_bare_or_local(reference) and last_part(reference) in known
        )
    )
    image = {} if not used else {"image": used[0]} if len(used) == 1 else {"images": used}
    return DraftService(
        name=name, keys={**image, **keys}, endpoints=dict(_endpoints(name, objects))
    )


def _endpoints(name: str, objects: list[KubeObject]) -> Iterator[tuple[str, dict[str, Any]]]:
    workloads = [obj for obj in objects if obj.get("kind") in _WORKLOADS]
    seen: set[str] = set()
    for k8s_service in (obj for obj in objects if obj.get("kind") == "Service"):
        behind = [one for one in workloads if _selects(k8s_service, one)]
        if not behind:
            continue
        for port in service_ports(k8s_service):
            if port.get("protocol", "TCP") != "TCP":
                continue
            scheme, path = _scheme(port, behind)
            own = label(str(port.get("name") or scheme))
            title = own if own not in seen else f"{own}-{port['port']}"
            seen.add(title)
            keys: dict[str, Any] = {"port": port["port"]}
            keys |= {"scheme": scheme} if scheme != "http" else {}
            keys |= {"path": path} if path else {}
            k8s_name = k8s_service["metadata"]["name"]
            yield title, keys | ({"service": k8s_name} if k8s_name != name else {})


def _scheme(port: Mapping[str, Any], workloads: Iterable[KubeObject]) -> tuple[str, str]:
    """Return the scheme of a port and its health path, as the readiness probe says, or guessed."""
    target = port.get("targetPort", port["port"])
    for workload in workloads:
        for container in containers(workload):
            meant = {target, _number(target, container)} - {None}  # a missing probe has no port
            for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
                probe = container.get(kind) or {}
                if (get := probe.get("httpGet")) and get.get("port") in meant:
                    return str(get.get("scheme", "HTTP")).lower(), str(get.get("path", "/"))
                if (probe.get("grpc") or {}).get("port") in meant:
                    return "grpc", ""
                if (probe.get("tcpSocket") or {}).get("port") in meant:
                    return "tcp", ""
    name, number = str(port.get("name", "")), port["port"]
    if number in _HTTPS_PORTS or name.startswith("https"):
        return "https", ""
    if name.startswith("http") or (number in _HTTP_PORTS and not name.startswith(("tcp", "grpc"))):
        return "http", ""
    return "tcp", ""


def _number(target: Any, container: Mapping[str, Any]) -> Any:
    for one in container.get("ports") or ():
        if one.get("name") == target:
            return one.get("containerPort")
        if one.get("containerPort") == target:
            return one.get("name")
    return None


def guessed_needs(objects: Mapping[str, list[KubeObject]]) -> dict[str, dict[str, str]]:
    """Return service to those whose k8s services its environment or ConfigMaps name, and where.

    Args:
        objects: Service to its objects.
    """
    owners = {
        str(obj["metadata"]["name"]): name
        for name, found in objects.items()
        for obj in found
        if obj.get("kind") == "Service"
    }
    needs: dict[str, dict[str, str]] = {}
    for name, found in objects.items():
        needs[name] = {}
        for key, text in _settings(found):
            for k8s_name, owner in owners.items():
                if owner != name and _names(text, k8s_name):
                    needs[name].setdefault(owner, key)
    return needs


def _settings(objects: Iterable[KubeObject]) -> Iterator[tuple[str, str]]:
    for obj in objects:
        for spec in pod_specs(obj):
            for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
                for one in container.get("env") or ():
                    yield str(one.get("name")), str(one.get("value") or "")
                for word in (*(container.get("command") or ()), *(container.get("args") or ())):
                    yield "its command", str(word)
        if obj.get("kind") == "ConfigMap":
            for key, value in (obj.get("data") or {}).items():
                yield str(key), str(value)


def _names(text: str, k8s_service: str) -> bool:
    """Whether a text has the DNS name of a k8s service, alone or before a port or in a URL."""
    host = re.escape(k8s_service)
    tail = r"(\.[a-z0-9-]+(\.svc(\.cluster\.local)?)?)?"
    return bool(
        re.fullmatch(rf"{host}{tail}", text.strip())
        or re.search(rf"(?:^|[/@,=\s\"'(]){host}{tail}(?::\d+|/)", text)
        or re.search(rf"(?:^|[^\w.-]){host}\.[a-z0-9-]+\.svc\b", text)
    )

"""Where an endpoint leads to, and the NodePort service that is added for it.

The user's k8s service stays as written: it may be headless, or be looked at by tests. Pure.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.objects import WORKLOAD_KINDS, group, pod_templates, service_ports

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.model import EndpointSpec, KubeObject


_LONGEST_NAME = 63


_HASH_DIGITS = 8


_COPIED = ("protocol", "appProtocol")


def find_target(
    spec: EndpointSpec, service_name: str, objects: Iterable[KubeObject]
) -> KubeObject | None:
    """Return the first k8s service or workload among `objects` that the endpoint means."""
    kind, name = target_name(spec, service_name)
    for obj in objects:
        builtin = group(obj) == ("" if kind in {"Service", "Pod"} else "apps")
        if builtin and obj.get("kind") == kind and obj["metadata"].get("name") == name:
            return obj
    return None


def target_name(spec: EndpointSpec, service_name: str) -> tuple[str, str]:
    """Return kind and name of what the endpoint leads to: `("Service", "api")`."""
    if spec.workload is None:
        return "Service", spec.service or service_name
    kind, _, name = spec.workload.partition("/")
    return WORKLOAD_KINDS.get(kind, kind), name


def find_port(k8s_service: KubeObject, port: int | str) -> dict[str, Any] | None:
    """Return the TCP port of a k8s service with that number or name."""
    key = "name" if isinstance(port, str) else "port"
    for entry in service_ports(k8s_service):
        if entry.get(key) == port and entry.get("protocol", "TCP") == "TCP":
            return entry
    return None


def selector(target: KubeObject) -> dict[str, str]:
    """Return the labels of the pods behind a k8s service or a workload; empty if none are said."""
    spec = target.get("spec") or {}
    if target["kind"] == "Service":
        return dict(spec.get("selector") or {})
    wanted = spec.get("selector") or {}
    if matched := wanted.get("matchLabels"):
        return dict(matched)
    labels = [(template.get("metadata") or {}).get("labels") for template in pod_templates(target)]
    return dict(labels[0] or {}) if labels else {}


def expose_service(
    spec: EndpointSpec, service_name: str, k8s_service: KubeObject | None, *, node_port: int | None
) -> KubeObject:
    """Return the NodePort service for an endpoint, without the run's labels.

    Args:
        spec: The endpoint.
        service_name: The declared service's name.
        k8s_service: What the endpoint leads to: a k8s service, or the workload if it names
            one; None if that is not known, and then the selector is empty.
        node_port: The NodePort it gets; None means one that the cluster chooses.
    """
    _, name = target_name(spec, service_name)
    target: KubeObject = k8s_service or {"kind": "Service", "metadata": {"name": name}}
    metadata = {"name": _exposed_name(target["metadata"]["name"], spec.name)}
    if namespace := target["metadata"].get("namespace"):
        metadata["namespace"] = namespace
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": "NodePort",
            "selector": selector(target),
            "ports": [_port(spec, target, node_port)],
        },
    }


def _port(spec: EndpointSpec, target: KubeObject, node_port: int | None) -> dict[str, Any]:
    written = (find_port(target, spec.port) if spec.workload is None else None) or {}
    number = written.get("port", spec.port)
    return {
        "name": spec.name,
        "port": number if isinstance(number, int) else node_port,
        "targetPort": written.get("targetPort", number),
        **({"nodePort": node_port} if node_port else {}),
        **{key: written[key] for key in _COPIED if key in written},
    }


def _exposed_name(name: str, endpoint: str) -> str:
    full = f"{name}-{endpoint}-kindinfra"
    if len(full) <= _LONGEST_NAME:
        return full
    # The hash keeps two names apart that begin alike.
    digest = hashlib.sha256(full.encode()).hexdigest()[:_HASH_DIGITS]
    tail = f"-{digest}-kindinfra"
    return full[: _LONGEST_NAME - len(tail)].rstrip("-.") + tail

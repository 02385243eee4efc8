"""Waits for the parts of a cluster that must be there before anything is applied."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube.client import ApiError, ApiRequest, Transport, delete_if
from pytest_kindinfra.system.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.system.timeline import Deadline


_DNS_SERVICES = "/api/v1/namespaces/kube-system/services"


DNS = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"


def wait_for_api(transport: Transport, deadline: Deadline) -> None:
    """Return when /readyz answers 200."""
    _wait(
        lambda: "" if _ask(transport, "/readyz", json_body=False) else "it says it is not ready",
        deadline,
        "the API server is not ready",
        every=0.1,
    )


def wait_for_nodes(transport: Transport, deadline: Deadline) -> None:
    """Return when there are nodes and every one is Ready."""
    _wait(
        lambda: missing_nodes(_ask(transport, "/api/v1/nodes")["items"]),
        deadline,
        "the cluster's nodes are not ready",
        every=0.2,
    )


def wait_for_dns(transport: Transport, deadline: Deadline) -> None:
    """Return when the cluster's DNS service has an endpoint that is ready, or there is none."""
    query = {"labelSelector": "k8s-app=kube-dns"}

    def missing() -> str:
        lack = missing_dns(_ask(transport, DNS, query)["items"])
        # Without the k8s service the cluster was made without DNS: nothing will come.
        return lack if lack and _ask(transport, _DNS_SERVICES, query)["items"] else ""

    _wait(
        missing,
        deadline,
        "the cluster's DNS is not ready",
        every=0.1,
    )


def ensure_namespace(
    transport: Transport,
    name: str,
    deadline: Deadline,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> None:
    """Make the namespace unless it is there, and wait for its default service account."""
    path = f"/api/v1/namespaces/{name}"
    marks = {"labels": dict(labels), **({"annotations": annotations} if annotations else {})}
    _wait(
        lambda: _missing_namespace(transport, name, marks),
        deadline,
        f'namespace "{name}" cannot be created',
        every=0.2,
    )
    _wait(
        lambda: "" if _ask(transport, f"{path}/serviceaccounts/default") else "there is none yet",
        deadline,
        f'namespace "{name}" got no default service account',
        every=0.05,
    )


def delete_namespace(transport: Transport, name: str, labels: Mapping[str, str]) -> None:
    """Ask for the namespace's end if it has these labels; it is not waited for."""

    def has_labels(namespace: KubeObject) -> bool:
        return labels.items() <= (namespace["metadata"].get("labels") or {}).items()

    delete_if(transport, f"/api/v1/namespaces/{name}", has_labels)


def missing_nodes(nodes: list[dict[str, Any]]) -> str:
    """Say which nodes are not Ready and why; nothing if all are."""
    if not nodes:
        return "there is no node"
    lacks = [_lack_of(node) for node in nodes]
    return "; ".join(lack for lack in lacks if lack)


def _lack_of(node: dict[str, Any]) -> str:
    name = node["metadata"]["name"]
    conditions = {entry["type"]: entry for entry in node.get("status", {}).get("conditions") or ()}
    ready = conditions.get("Ready", {})
    if ready.get("status") == "True":
        return ""
    bad = [
        f"{kind}: {entry.get('message') or entry.get('reason', '')}"
        for kind, entry in conditions.items()
        if (kind == "Ready") or entry["status"] == "True"
    ]
    return f'node "{name}" is not Ready ({"; ".join(bad) or "no conditions yet"})'


def missing_dns(slices: list[dict[str, Any]]) -> str:
    """Say what the DNS service lacks; nothing if one of its endpoints is ready."""
    endpoints = [entry for item in slices for entry in item.get("endpoints") or ()]
    if any(entry.get("conditions", {}).get("ready", True) for entry in endpoints):
        return ""
    count = len(endpoints)
    return f"the service kube-dns has {count} endpoints, none of them ready"


def _missing_namespace(transport: Transport, name: str, marks: Mapping[str, Any]) -> str:
    found = _ask(transport, f"/api/v1/namespaces/{name}")
    if found is None:
        meta = {"name": name, **marks}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}
        found = json.loads(transport.send(ApiRequest("POST", "/api/v1/namespaces", body)))
    ending = found.get("status", {}).get("phase") == "Terminating"
    return "one of that name is still being deleted" if ending else ""


def _ask(
    transport: Transport,
    path: str,
    query: Mapping[str, str] | None = None,
    *,
    json_body: bool = True,
) -> Any:
    try:
        body = transport.send(ApiRequest("GET", path, query=query, timeout=5), attempts=1)
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise
    return json.loads(body) if json_body else True


def _wait(missing: Callable[[], str], deadline: Deadline, what: str, *, every: float) -> None:
    # Errors count as "not yet": a server that comes up answers with most of them.
    last = ""

    def there() -> bool:
        nonlocal last
        try:
            last = missing()
        except (ApiError, ClusterError) as error:
            last = str(error)
        return not last

    if not wait_until(there, deadline, every=every):
        msg = f"{what}{deadline.exceeded()}: {last}"
        raise ClusterError(msg)

"""What a pod left behind: its log and its events, fetched once something went wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube.client import ApiError, ApiRequest, Transport
from pytest_kindinfra.kube.events import event_text, latest_warning
from pytest_kindinfra.kube.pods import containers_of

if TYPE_CHECKING:
    from pytest_kindinfra.kube.causes import Cause
    from pytest_kindinfra.model import KubeObject


LOG_LINES = 20


LIMIT_BYTES = 256 * 1024


EVENTS = 500


NO_LOG = "unable to retrieve container logs for"
"""How the kubelet begins a log that it has lost, with status 200."""


class ContainerName(NamedTuple):
    """The container whose log is read."""

    namespace: str
    pod: str
    container: str


def pod_logs(
    transport: Transport,
    name: ContainerName,
    *,
    previous: bool = False,
    lines: int = 50,
    limit_bytes: int = LIMIT_BYTES,
    since: str = "",
) -> str:
    """Return the last lines of a container's log, not more than `limit_bytes` of them.

    With `since`, a time to the second, only those from then on, each with its own time before it.
    """
    # The server's own limitBytes keeps the beginning, but the end is what tells; it is
    # still set, well above, so that lines without an end do not fill the memory.
    query: dict[str, Any] = {"tailLines": lines, "limitBytes": max(limit_bytes, LIMIT_BYTES) * 4}
    if name.container:
        query["container"] = name.container
    if previous:
        query["previous"] = "true"
    if since:
        query |= {"sinceTime": since, "timestamps": "true"}
    path = f"/api/v1/namespaces/{name.namespace}/pods/{name.pod}/log"
    body = transport.send(ApiRequest("GET", path, query=query, timeout=10))
    return body[-limit_bytes:].decode(errors="replace")


def events(transport: Transport, namespace: str) -> list[KubeObject]:
    """Return the namespace's events, as listed."""
    path = f"/api/v1/namespaces/{namespace}/events"
    answer = json.loads(
        transport.send(ApiRequest("GET", path, query={"limit": EVENTS}, timeout=10))
    )
    return list(answer.get("items") or ())


def with_evidence(transport: Transport, cause: Cause, pod: KubeObject | None) -> Cause:
    """Return the cause with the pod's last event and log lines, as far as they are there."""
    before = cause.logs == "previous"
    event = last_event(transport, pod, cause.container, before=before) if pod else ""
    return replace(cause, event=event, log=_log_of(transport, cause))


def traces(transport: Transport, pod: KubeObject) -> list[str]:
    """Return lines about a pod that is not ready: the ends of its containers' logs."""
    meta = pod["metadata"]
    found: list[str] = []
    for one in containers_of(pod):
        name = ContainerName(meta["namespace"], meta["name"], one["name"])
        if lines := _pod_log(transport, name, previous=False):
            found += [f'  last log lines of container "{one["name"]}":']
            found += [f"    {line}" for line in lines]
    return found


def last_event(
    transport: Transport, pod: KubeObject, container: str = "", *, before: bool = False
) -> str:
    """Return the last warning about a pod as a sentence; empty if there is none.

    See `latest_warning` for which ones count.
    """
    try:
        found = events(transport, pod["metadata"]["namespace"])
    except (ApiError, ClusterError):
        return ""
    warning = latest_warning(pod, found, container, before=before)
    return event_text(warning) if warning else ""


def _log_of(transport: Transport, cause: Cause) -> tuple[str, ...]:
    # Of a container that is down, either of the two logs may be the one that is kept.
    first = cause.logs == "previous"
    name = ContainerName(cause.namespace, cause.pod, cause.container)
    for previous in (first, not first) if cause.logs else ():
        if lines := _pod_log(transport, name, previous=previous):
            return lines
    return ()


def _pod_log(transport: Transport, name: ContainerName, *, previous: bool) -> tuple[str, ...]:
    try:
        text = pod_logs(transport, name, previous=previous, lines=LOG_LINES)
    except (ApiError, ClusterError):
        return ()
    if text.startswith(NO_LOG):
        return ()
    return tuple(line for line in text.splitlines() if line.strip())

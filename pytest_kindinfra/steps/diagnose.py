"""Keep evidence of a failed run before the cluster goes: events, pods, logs of the kind nodes.

A step must not know another step. What cannot be had is left out: evidence is never fatal.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.presence import size_of
from pytest_kindinfra.privatefiles import append_private, write_private
from pytest_kindinfra.timeline import call_within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.redaction import Redactor
    from pytest_kindinfra.timeline import Deadline

_LOG_BYTES = 1 << 20


def keep_evidence(
    cluster: str,
    *,
    folder: Path,
    provider: Provider,
    namespaces: Sequence[str],
    redactor: Redactor,
    deadline: Deadline,
) -> None:
    """Write `events.txt`, `pods/` and `kind/` into `folder`, for its owner to read only.

    Args:
        cluster: The cluster's name.
        folder: The run directory, with the kubeconfig.
        provider: Who exports the kind nodes' logs.
        namespaces: Whose pods and events are kept.
        redactor: Knows what is not kept.
        deadline: When to give up.
    """
    if not provider.exists(cluster, deadline):
        return
    kubeconfig = folder / "kubeconfig"
    if size_of(kubeconfig):
        call_within(
            partial(_keep_namespaces, kubeconfig, namespaces, folder, redactor),
            deadline,
            what="the API server",
        )
    _keep_logs(cluster, folder / "kind", provider, redactor, deadline)


def _keep_namespaces(
    kubeconfig: Path, namespaces: Sequence[str], folder: Path, redactor: Redactor
) -> None:
    """Keep what the API server says; given up in the middle, each file is whole or not there."""
    from pytest_kindinfra.kube import Kube

    kube = Kube(kubeconfig)
    try:
        for namespace in namespaces:
            with suppress(KindInfraError):
                _keep_namespace(kube, namespace, folder, redactor)
    finally:
        kube.close()


def _keep_logs(
    cluster: str, folder: Path, provider: Provider, redactor: Redactor, deadline: Deadline
) -> None:
    """Export the kind nodes' logs; a file with a secret is written anew without it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        provider.export_logs(cluster, folder, deadline)
    finally:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found = path.read_bytes()
                if (shown := redactor.data(found)) != found:
                    path.write_bytes(shown)


def _keep_namespace(kube: Kube, namespace: str, folder: Path, redactor: Redactor) -> None:
    lines = [f"{namespace} {_event_line(event)}\n" for event in kube.events(namespace)]
    append_private(folder / "events.txt", redactor.text("".join(lines)))
    pods = folder / "pods"
    pods.mkdir(mode=0o700, exist_ok=True)
    for pod in kube.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]:
        _keep_pod(kube, pod, pods, redactor)


def _keep_pod(kube: Kube, pod: dict[str, Any], folder: Path, redactor: Redactor) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    pod["metadata"].pop("managedFields", None)
    text = json.dumps(redactor.record(pod), indent=1)
    write_private(folder / f"{namespace}.{name}.json", text)
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    for container in containers:
        for previous in (False, True):
            with suppress(KindInfraError):
                text = kube.pod_logs(
                    namespace,
                    name,
                    container["name"],
                    previous=previous,
                    lines=5000,
                    limit_bytes=_LOG_BYTES,
                )
                ending = ".previous.log" if previous else ".log"
                path = folder / f"{namespace}.{name}.{container['name']}{ending}"
                write_private(path, redactor.text(text))


def _event_line(event: dict[str, Any]) -> str:
    about = event.get("involvedObject", {})
    when = event.get("lastTimestamp") or event.get("eventTime") or ""
    what = f"{about.get('kind', '')}/{about.get('name', '')}:"
    words = (when, event.get("type"), event.get("reason"), what, event.get("message"))
    return " ".join(str(word) for word in words if word)

"""Commands that reach into the services of the reused cluster: exec, url, restart, kubectl."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pytest_kindinfra.commands.images import settings_of
from pytest_kindinfra.commands.reused import (
    connected,
    deployed_of,
    kubeconfig_of,
    look,
    prove_endpoints,
    urls_of,
)
from pytest_kindinfra.errors import ClusterError, KindInfraError, did_you_mean
from pytest_kindinfra.kube.remote import Streams, run_in_container
from pytest_kindinfra.kube.routes import await_routes, pods_of
from pytest_kindinfra.model import Service, declared_name, service_selector
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.programs import become, which
from pytest_kindinfra.system.timeline import Deadline, now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.commands.reused import Place
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject


_RESTARTED = frozenset({"Deployment", "StatefulSet", "DaemonSet"})
"""The kinds that make new pods when their pod template changes."""


_ANNOTATION = "kubectl.kubernetes.io/restartedAt"


def url(service: str, endpoint: str | None, *, cluster: str | None) -> str:
    """Return the URL of an endpoint as it was last brought up; without a name, of the first one.

    Raises:
        KindInfraError: There is no cluster, or it has no such service or endpoint.
    """
    place = look(cluster)
    kubeconfig_of(place)
    urls = urls_of(deployed_of(place, service))
    if not urls:
        msg = f'service "{service}" has no endpoints'
        raise KindInfraError(msg)
    name = endpoint or next(iter(urls))
    if name not in urls:
        hint = did_you_mean(name, urls) or f"; it has: {', '.join(urls)}"
        msg = f'service "{service}" has no endpoint "{name}"{hint}'
        raise KindInfraError(msg)
    return urls[name]


def execute(
    service: str,
    command: Sequence[str],
    *,
    container: str | None,
    stdin: bool,
    cluster: str | None,
) -> int:
    """Run a command in the newest ready pod of a service, and return its exit code.

    Args:
        service: Its name.
        command: The words, without a shell.
        container: Which container; None means the first one.
        stdin: Standard input is passed on.
        cluster: kind's name for the cluster if not what the options say.

    Raises:
        KindInfraError: There is no cluster or no ready pod, or the command was not started.
    """
    with connected(cluster) as (place, kube):
        deployed_of(place, service)
        pod = _ready_pod(kube, service)
        meta, names = pod["metadata"], [one["name"] for one in pod["spec"]["containers"]]
        if container and container not in names:
            hint = did_you_mean(container, names) or f"; it has: {', '.join(names)}"
            msg = f'pod "{meta["name"]}" has no container "{container}"{hint}'
            raise KindInfraError(msg)
        streams = Streams(
            sys.stdout.buffer,
            sys.stderr.buffer,
            FileIO(sys.stdin.fileno(), closefd=False) if stdin else None,
        )
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        return run_in_container(kube.transport, path, container or names[0], command, streams)


def _ready_pod(kube: Kube, service: str) -> KubeObject:
    pods = kube.list_("/api/v1/pods", labelSelector=service_selector(service))
    ready = [pod for pod in pods if _is_ready(pod)]
    if not ready:
        why = "none of its pods is ready" if pods else "it has no pods"
        msg = f'service "{service}": {why}\nTo fix: kindinfra status, kindinfra logs {service}'
        raise KindInfraError(msg)
    return max(ready, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))


def _is_ready(pod: KubeObject) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def restart(service: str, *, cluster: str | None) -> str:
    """Restart the pods of a service and return once it is ready and its endpoints have answered.

    Returns:
        A line that says what was restarted, and what was not.

    Raises:
        KindInfraError: There is no cluster, nothing of the service can be restarted, or it did not
            become ready in time.
    """
    with connected(cluster) as (place, kube):
        deployed = deployed_of(place, service)
        workloads = [
            one for one in [*deployed.objects, *deployed.charted] if one["kind"] in _RESTARTED
        ]
        others = [one for one in deployed.objects if one["kind"] in {"Job", "Pod", "ReplicaSet"}]
        if not workloads:
            kinds = ", ".join(_titles(others)) or "no workload"
            msg = (
                f'service "{service}" has nothing that can be restarted: {kinds}\n'
                "To fix: what runs once runs again with `kindinfra up` after a change"
            )
            raise KindInfraError(msg)
        declared = _declared(declared_name(service))
        deadline = Deadline.after(declared.timeout or _timeout(place))
        before = pods_of(kube, service)
        for one in workloads:
            _restart_workload(kube, one)
        there = [found for one in workloads if (found := kube.get(kube.path_of(one, namespace="")))]
        kube.wait_ready(there, namespace="", deadline=deadline, restarts=declared.restarts)
        await_routes(kube, service, before, deadline)
        prove_endpoints(service, deployed, deadline)
    left = f"; left as it is: {', '.join(_titles(others))}" if others else ""
    return f"restarted {', '.join(_titles(workloads))}{left}"


def _restart_workload(kube: Kube, obj: KubeObject) -> None:
    """Have a workload replace its pods, as `kubectl rollout restart` does; nothing is awaited."""
    path = kube.path_of(obj, namespace="")
    if kube.get(path) is None:
        msg = f"{obj['kind']} {obj['metadata']['name']} is gone\nTo fix: kindinfra up"
        raise ClusterError(msg)
    annotations = {_ANNOTATION: datetime.fromtimestamp(now(), UTC).isoformat()}
    body = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    kube.request("PATCH", path, body=body, content_type="application/merge-patch+json")


def _titles(objects: Sequence[KubeObject]) -> list[str]:
    return [f"{one['kind']} {one['metadata']['name']}" for one in objects]


def _declared(service: str) -> Service:
    """Return the service as declared, or one of its name if a hook declares it."""
    declared = read_declaration(declaration_folder(Path.cwd())).services
    return next((one for one in declared if one.name == service), Service(name=service))


def _timeout(place: Place) -> float:
    folder = declaration_folder(Path.cwd())
    return settings_of(read_declaration(folder), {"cluster_name": place.name}).timeout


def kubectl(words: Sequence[str], *, cluster: str | None) -> NoReturn:
    """Become kubectl, for the cluster and in the namespace of the current folder's services.

    Raises:
        ToolMissingError: kubectl is not on PATH.
        KindInfraError: There is no cluster, it does not run, or nobody has its credentials.
    """
    program = which("kubectl", fix=how_to_get("kubectl"))
    place = look(cluster)
    kubeconfig = kubeconfig_of(place)
    namespace = read_declaration(declaration_folder(Path.cwd())).cluster.namespace
    # Before the words, so that a --namespace among them counts.
    argv = [program, f"--namespace={namespace}", *words]
    become(argv, env={"KUBECONFIG": str(kubeconfig)})

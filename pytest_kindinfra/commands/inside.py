"""Commands that reach into the services of the reused cluster: exec, url, restart, kubectl."""

from __future__ import annotations

import math
import shlex
import sys
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_kindinfra.commands.forwarding import forwarded, is_forwarded, led_here, urls_of
from pytest_kindinfra.commands.places import (
    connected,
    deployed_of,
    kubeconfig_of,
    look,
    opened,
    record_of,
)
from pytest_kindinfra.errors import KindInfraError, did_you_mean
from pytest_kindinfra.intests.pods import newest_ready
from pytest_kindinfra.intests.workloads import RESTARTED, Workloads
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.execsocket import Container
from pytest_kindinfra.kube.pods import container_of
from pytest_kindinfra.kube.remote import Streams, run_in_container
from pytest_kindinfra.kube.routes import live_pods
from pytest_kindinfra.model import ClusterSpec
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.programs import become, which
from pytest_kindinfra.system.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kindinfra.commands.places import Place
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject


_FORWARD_SECONDS = 30.0


_LOOK_EVERY = 0.5


def url(service: str, endpoint: str | None, *, cluster: Mapping[str, Any]) -> str:
    """Return the URL of an endpoint as it was last brought up; without a name, of the first one.

    Args:
        service: Its name.
        endpoint: The endpoint's name.
        cluster: The options that name the cluster, as for `look`.

    Raises:
        KindInfraError: There is no cluster, it has no such service or endpoint, or a port must be
            forwarded to it.
    """
    place = look(cluster)
    kubeconfig_of(place)
    name, found = _endpoint(place, service, endpoint)
    if place.kept and is_forwarded(record_of(place, service), name):
        words = shlex.join(["kindinfra", "url", "--forward", *place.words, service, name])
        msg = (
            f'endpoint "{name}" of "{service}" has no URL while nothing forwards a port to it: '
            f'cluster "{place.name}" is an existing one\nTo fix: {words} forwards one until Ctrl-C'
        )
        raise KindInfraError(msg)
    return found


def forward(
    service: str,
    endpoint: str | None,
    *,
    cluster: Mapping[str, Any],
    say: Callable[[str], object],
    is_read: Callable[[], bool],
) -> None:
    """Show the URL of an endpoint; in an existing cluster, forward a port to it until the end.

    Args:
        service: Its name.
        endpoint: The endpoint's name; None means the first one.
        cluster: The options that name the cluster, as for `look`.
        say: Shows the URL.
        is_read: Whether what is shown is still read, else it ends.

    Raises:
        KindInfraError: There is no cluster, it has no such service or endpoint, or the endpoint
            did not answer.
    """
    place = look(cluster)
    kubeconfig = kubeconfig_of(place)
    name, found = _endpoint(place, service, endpoint)
    with opened(place, kubeconfig) as kube:
        record = record_of(place, service)
        if not isinstance(kube, SharedKube) or not is_forwarded(record, name):
            say(found)  # the address is one of the cluster, and stays
            return
        deadline = Deadline.after(_FORWARD_SECONDS)
        say(forwarded(kube, record, name, deadline).url)
        wait_until(lambda: not is_read(), Deadline(math.inf), every=_LOOK_EVERY)


def _endpoint(place: Place, service: str, endpoint: str | None) -> tuple[str, str]:
    """Return the name and the URL of an endpoint."""
    urls = urls_of(deployed_of(place, service))
    if not urls:
        msg = f'service "{service}" has no endpoints'
        raise KindInfraError(msg)
    name = endpoint or next(iter(urls))
    if name not in urls:
        hint = did_you_mean(name, urls) or f"; it has: {', '.join(urls)}"
        msg = f'service "{service}" has no endpoint "{name}"{hint}'
        raise KindInfraError(msg)
    return name, urls[name]


def execute(
    service: str,
    command: Sequence[str],
    *,
    container: str | None,
    stdin: bool,
    cluster: Mapping[str, Any],
) -> int:
    """Run a command in the newest ready pod of a service, and return its exit code.

    Args:
        service: Its name.
        command: The words, without a shell.
        container: Which container; None means the pod's default one, else its first.
        stdin: Standard input is passed on.
        cluster: The options that name the cluster, as for `look`.

    Raises:
        KindInfraError: There is no cluster or no ready pod, or the command was not started.
    """
    with connected(cluster) as (place, kube):
        deployed_of(place, service)
        pod = _ready_pod(kube, service, place.namespaces(service))
        meta = pod["metadata"]
        where = Container(meta["namespace"], meta["name"], container_of(pod, container or None))
        streams = Streams(
            sys.stdout.buffer,
            sys.stderr.buffer,
            FileIO(sys.stdin.fileno(), closefd=False) if stdin else None,
        )
        return run_in_container(kube.transport, where, command, streams)


def _ready_pod(kube: Kube, service: str, namespaces: Sequence[str] | None) -> KubeObject:
    pods = live_pods(kube, service, namespaces=namespaces)
    if pod := newest_ready(pods):
        return pod
    why = "none of its pods is ready" if pods else "it has no pods"
    msg = f'service "{service}": {why}\nTo fix: kindinfra status, kindinfra logs {service}'
    raise KindInfraError(msg)


def restart(service: str, *, cluster: Mapping[str, Any]) -> str:
    """Restart the pods of a service and return once it is ready and its endpoints have answered.

    Args:
        service: Its name.
        cluster: The options that name the cluster, as for `look`.

    Returns:
        A line that says what was restarted, and what was not.

    Raises:
        KindInfraError: There is no cluster, nothing of the service can be restarted, or it did not
            become ready in time.
    """
    with connected(cluster) as (place, kube):
        record = record_of(place, service)
        if isinstance(kube, SharedKube):
            record = led_here(kube, record)
        restarted = [one for one in record.objects if one["kind"] in RESTARTED]
        others = [one for one in record.objects if one["kind"] in {"Job", "ReplicaSet"}]
        if not restarted:
            kinds = ", ".join(_titles(others)) or "no workload"
            msg = (
                f'service "{service}" has nothing that can be restarted: {kinds}\n'
                "To fix: a Job runs again with `kindinfra up` after a change of its manifest"
            )
            raise KindInfraError(msg)
        option = f"timeout of [services.{service}], or --kindinfra-timeout"
        Workloads(kube, record).restart(Deadline.after(record.timeout, option=option))
    left = f"; not restarted: {', '.join(_titles(others))}" if others else ""
    return f"restarted {', '.join(_titles(restarted))}{left}"


def _titles(objects: Sequence[KubeObject]) -> list[str]:
    return [f"{one['kind']} {one['metadata']['name']}" for one in objects]


def kubectl(words: Sequence[str], *, cluster: Mapping[str, Any]) -> NoReturn:
    """Become kubectl, for the cluster and in the namespace of the current folder's services.

    Args:
        words: kubectl's arguments.
        cluster: The options that name the cluster, as for `look`.

    Raises:
        ToolMissingError: kubectl is not on PATH.
        KindInfraError: There is no cluster, it does not run, or its kubeconfig is missing.
    """
    program = which("kubectl", fix=how_to_get("kubectl"))
    place = look(cluster)
    kubeconfig = kubeconfig_of(place)
    namespace = read_declaration(declaration_folder(Path.cwd())).cluster.namespace
    namespace = ClusterSpec().namespace if namespace == "per-run" else namespace
    if place.kept and place.kept.record:
        namespace = place.kept.record.namespace
    # Before the words, so that a --namespace among them counts.
    argv = [program, f"--namespace={namespace}", *words]
    become(argv, env={"KUBECONFIG": str(kubeconfig)})

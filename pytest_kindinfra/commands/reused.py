"""Commands about the reused cluster: where it is, `down`, `status`, `logs`."""

from __future__ import annotations

import shlex
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.existing import scope_of
from pytest_kindinfra.clusters.sweep import tear_down
from pytest_kindinfra.commands.forwarding import is_forwarded, urls_of, why_silent
from pytest_kindinfra.commands.places import (
    connected,
    deployed_of,
    kubeconfig_of,
    look,
    opened,
    unclear,
)
from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError
from pytest_kindinfra.kube.cleanup import remove_all
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.follow import Following
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.kube.readiness import gates, readiness
from pytest_kindinfra.kube.routes import pods_paths
from pytest_kindinfra.model import SERVICE_LABEL
from pytest_kindinfra.names import labelled_service, service_selector
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import locked_alone
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.state.reused import (
    deployed_services,
    forget,
    user_of,
    why_unclear,
    why_unknown,
)
from pytest_kindinfra.system.answers import prove_endpoint
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kindinfra.commands.places import Kept, Place
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Endpoint, EndpointSpec, KubeObject
    from pytest_kindinfra.state.clusterrecords import Deployed


_DELETE_SECONDS = 120.0


def down(cluster: Mapping[str, Any]) -> str:
    """Delete the cluster and return a line that says what was done.

    Of an existing cluster, all objects are deleted that runs with reuse of this folder made there.

    Args:
        cluster: The options that name it, as for `look`.

    Raises:
        KindInfraError: No run created it, it may be in use, or it could not be deleted.
    """
    place = look(cluster)
    if place.kept:
        return _clear(place, place.kept)
    if place.there is None:
        return f"there is no cluster {place.name}"
    if place.there.folder is None:
        delete = " ".join(place.tools.provider.delete_command(place.name))
        head = f'no run of pytest-kindinfra created cluster "{place.name}"'
        msg = f"{head}\nTo fix: if it is not in use: {delete}"
        raise KindInfraError(msg)
    directory = RunDirectory(place.there.folder)
    if why := why_unclear(directory, place.name):
        raise KindInfraError(unclear(place, why))
    with locked_alone(directory.lock) as alone:
        if not alone:
            raise KindInfraError(_in_use(place, directory))
        done = _delete(place, directory)
        forget(directory)
    return done


def _in_use(place: Place, directory: RunDirectory) -> str:
    user = user_of(directory)
    return f'cluster "{place.name}" is in use by {user}\nTo fix: wait until it ends'


def _clear(place: Place, kept: Kept) -> str:
    """Delete what runs with reuse have put into an existing cluster; the end is not waited for."""
    if kept.record is None:
        return f"no services of this folder are in cluster {place.name}"
    kubeconfig, directory = kubeconfig_of(place), kept.directory
    with locked_alone(directory.lock) as alone:
        if not alone:
            raise KindInfraError(_in_use(place, directory))
        with closing(Reader(kubeconfig)) as reader:
            deadline = Deadline.after(_DELETE_SECONDS)
            scope = scope_of(directory, kept.record.namespace)
            remove_all(reader, kept.record.run_id, deadline, scope)
        forget(directory)
    return f"deleted the services of this folder in cluster {place.name}; the cluster stays"


def _delete(place: Place, directory: RunDirectory) -> str:
    # A creation that was cut short may ask the engine for its container after the deletion.
    tear_down(
        place.name,
        tools=place.tools,
        kubeconfig=directory.kubeconfig,
        deadline=Deadline.after(_DELETE_SECONDS),
    )
    return f"deleted cluster {place.name}"


_ANSWERS_WITHIN = 1.0


_FAR_WITHIN = 10.0
"""Seconds for an existing cluster, which may be on another continent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ServiceState:
    """One service: why it is not ready (empty if it is), and endpoint to URL.

    An endpoint has no URL if a port leads there only while a process forwards.
    """

    name: str
    why: str
    endpoints: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The reused cluster of a folder.

    Attributes:
        cluster: kind's name for it.
        kubeconfig: Its credentials; None if it cannot be used.
        services: Those that were brought up, sorted by name.
        problem: Why it cannot be used, or what stopped answering.
        forward: The beginning of the command that leads to an endpoint of an existing cluster.
    """

    cluster: str
    kubeconfig: Path | None = None
    services: Sequence[_ServiceState] = ()
    problem: str = ""
    forward: str = ""

    @property
    def well(self) -> bool:
        """Whether the cluster answers and every service is ready."""
        return not self.problem and not any(one.why for one in self.services)

    @property
    def lines(self) -> Iterator[str]:
        """What is shown of it."""
        if self.kubeconfig:
            yield f"cluster {self.cluster}, export KUBECONFIG={self.kubeconfig}"
        if self.problem:
            yield self.problem
        elif not self.services:
            yield "  no service was deployed"
        for one in self.services:
            yield f"  {one.name:<20} {f'not ready: {one.why}' if one.why else 'ready'}"
            for name, url in one.endpoints.items():
                yield f"    {name:<18} {url or f'{self.forward} {one.name} {name}'}"

    @property
    def record(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "cluster": self.cluster,
            "kubeconfig": str(self.kubeconfig) if self.kubeconfig else None,
            "ready": self.well,
            "problem": self.problem,
            "services": {
                one.name: {"ready": not one.why, "why": one.why, "endpoints": dict(one.endpoints)}
                for one in self.services
            },
        }


def status(cluster: Mapping[str, Any]) -> Status:
    """Return what there is of the cluster of the current folder.

    Args:
        cluster: The options that name it, as for `look`.

    Raises:
        DeclarationError: The declaration or an option is wrong.
        KindInfraError: The engine does not answer.
    """
    place = look(cluster)
    try:
        kubeconfig = kubeconfig_of(place)
    except KindInfraError as error:
        return Status(cluster=place.name, problem=str(error))
    with opened(place, kubeconfig) as kube:
        try:
            kube.wait_for_api(Deadline.after(_FAR_WITHIN if place.kept else _ANSWERS_WITHIN))
            directory = place.directory
            if directory and (why := why_unknown(directory, place.name)):
                message = unclear(place, why)
                return Status(cluster=place.name, kubeconfig=kubeconfig, problem=message)
            services = _services(place, kube)
        except ClusterError as error:
            return Status(cluster=place.name, kubeconfig=kubeconfig, problem=str(error))
    forward = shlex.join(["kindinfra", "url", "--forward", *place.words])
    return Status(cluster=place.name, kubeconfig=kubeconfig, services=services, forward=forward)


def _services(place: Place, kube: Kube) -> list[_ServiceState]:
    directory = place.directory
    deployed = dict(deployed_services(directory)) if directory else {}
    specs = _specs() if deployed and not place.kept else {}
    return [
        _ServiceState(
            name=name,
            why=_why_not_ready(name, state, kube, specs) or _why_silent(place, name, kube),
            endpoints=_lasting_urls(place, name, state),
        )
        for name, state in sorted(deployed.items())
    ]


def _lasting_urls(place: Place, name: str, state: Deployed) -> dict[str, str | None]:
    """Return endpoint to URL; None for one to which a port must be forwarded first."""
    urls, directory = urls_of(state), place.directory
    record = directory.read(DeployedService, name) if directory and place.kept else None
    lost = place.kept is not None and record is None
    return {
        one: None if lost or (record and is_forwarded(record, one)) else url
        for one, url in urls.items()
    }


def _why_silent(place: Place, name: str, kube: Kube) -> str:
    """Return why an endpoint of a service in an existing cluster does not answer."""
    directory = place.directory
    record = directory.read(DeployedService, name) if directory else None
    if record is None or not isinstance(kube, SharedKube):
        return ""
    return why_silent(kube, record, Deadline.after(_FAR_WITHIN))


def _specs() -> Mapping[tuple[str, str], EndpointSpec]:
    declared = read_declaration(declaration_folder(Path.cwd())).services
    return {(one.name, spec.name): spec for one in declared for spec in one.endpoints}


def _why_not_ready(
    name: str, deployed: Deployed, kube: Kube, specs: Mapping[tuple[str, str], EndpointSpec]
) -> str:
    if not deployed.ready:
        return "its last deployment failed"
    # A chart's hooks are not among them: helm may delete those once they are done.
    for obj in (*deployed.objects, *deployed.charted):
        if why := _why_object(obj, kube):
            return why
    for one in deployed.endpoints:
        if why := _why_endpoint(name, one, specs):
            return why
    return ""


def _why_object(obj: KubeObject, kube: Kube) -> str:
    title = f"{obj['kind']} {obj['metadata']['name']}"
    found = kube.get(kube.path_of(obj, namespace=""))
    if found is None:
        return f"{title} is gone"
    verdict = readiness(found) if gates(found) else None
    return "" if verdict is None or verdict.ready else f"{title}: {verdict.why}"


def _why_endpoint(
    name: str, endpoint: Endpoint, specs: Mapping[tuple[str, str], EndpointSpec]
) -> str:
    if (spec := specs.get((name, endpoint.name))) is None:
        return ""
    try:
        prove_endpoint(
            name,
            spec,
            host=endpoint.host,
            host_port=endpoint.port,
            node=None,
            virtual_host=endpoint.virtual_host,
            deadline=Deadline.after(_ANSWERS_WITHIN),
        )
    except NotReadyError as error:
        return str(error)
    return ""


def logs(service: str | None, *, cluster: Mapping[str, Any], lines: int) -> Iterator[str]:
    """Yield each container's last lines, after a line that names it.

    Args:
        service: Whose pods; None means those of all services.
        cluster: The options that name the cluster, as for `look`.
        lines: How many of each container.

    Raises:
        KindInfraError: There is no cluster, or it has no such service.
    """
    with connected(cluster) as (place, kube):
        selector, places = _selector(place, service), place.namespaces(service)
        for path in pods_paths(places):
            for pod in kube.list_(path, labelSelector=selector):
                for line in _of_pod(kube, pod, lines):
                    yield place.tools.redactor.text(line)


def follow(
    service: str | None,
    *,
    cluster: Mapping[str, Any],
    lines: int,
    say: Callable[[str], object],
    is_read: Callable[[], bool],
) -> None:
    """Show the logs as they grow, also of pods that come later, as long as they are read.

    Args:
        service: Whose pods; None means those of all services.
        cluster: The options that name the cluster, as for `look`.
        lines: How many earlier lines of each container are shown first.
        say: Shows a line; called from several threads, one at a time. An OSError ends it.
        is_read: Whether they are still read; called now and then.

    Raises:
        KindInfraError: There is no cluster, it has no such service, or it stopped answering.
    """
    with connected(cluster) as (place, kube):
        selector = _selector(place, service)
        redact = place.tools.redactor.text
        Following(
            kube,
            selector,
            say=lambda line: say(redact(line)),
            is_read=is_read,
            lines=lines,
            namespaces=place.namespaces(service),
        ).run()


def _selector(place: Place, service: str | None) -> str:
    if service:
        deployed_of(place, service)
    return service_selector(service) if service else SERVICE_LABEL


def _of_pod(kube: Kube, pod: KubeObject, lines: int) -> Iterator[str]:
    meta, spec = pod["metadata"], pod["spec"]
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        where = f"{labelled_service(meta['labels'])}: {meta['namespace']}/{meta['name']}"
        yield f"==> {where} {container['name']} <=="
        try:
            text = kube.pod_logs(meta["namespace"], meta["name"], container["name"], lines=lines)
        except KindInfraError as error:
            text = f"({error})"
        yield from text.splitlines()

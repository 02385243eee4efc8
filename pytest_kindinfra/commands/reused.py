"""Commands about the reused cluster: where it is, `down`, `status`, `logs`."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindinfra.commands.images import settings_of
from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError, StateError
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.kube.follow import Following
from pytest_kindinfra.kube.readiness import gates, readiness
from pytest_kindinfra.model import SERVICE_LABEL
from pytest_kindinfra.names import (
    declared_name,
    labelled_service,
    service_selector,
    worker_of,
)
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import read_declaration
from pytest_kindinfra.run.recipe import tear_down
from pytest_kindinfra.state.clusterrecords import Deployed
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import locked_alone
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.state.reused import (
    deployed_services,
    forget,
    services_in,
    user_of,
    why_unclear,
    why_unknown,
    why_unseen,
)
from pytest_kindinfra.state.runnames import cluster_name
from pytest_kindinfra.system.answers import prove_endpoint
from pytest_kindinfra.system.files import size_of
from pytest_kindinfra.system.secrets import credentials_in
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.model import Endpoint, EndpointSpec, KubeObject, ObservedCluster
    from pytest_kindinfra.state.codec import Note


N = TypeVar("N", bound="Note")


ASK_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The cluster of a folder.

    Attributes:
        name: kind's name for it.
        tools: Who does the work.
        there: What its containers show; None if there is no such cluster.
    """

    name: str
    tools: Tools
    there: ObservedCluster | None

    @property
    def directory(self) -> RunDirectory | None:
        """Its reused directory, None if it has none, or none that can be seen."""
        folder = self.there.folder if self.there else None
        return RunDirectory(folder) if folder and not why_unseen(RunDirectory(folder)) else None


def look(cluster: str | None) -> Place:
    """Return the cluster of the current folder, or of that above it which has the declaration.

    Args:
        cluster: Its name if it has another one than the options say.

    Raises:
        DeclarationError: The declaration or an option is wrong.
        KindInfraError: The engine does not answer.
    """
    folder = declaration_folder(Path.cwd())
    given = {"reuse": True, "cluster_name": cluster}
    settings = settings_of(read_declaration(folder), given)
    name = cluster_name(folder, named=settings.cluster_name, reuse=True, run_id="")
    tools = make_tools(settings.engine)
    there = tools.creator.observe(name, Deadline.after(ASK_SECONDS))
    return Place(name=name, tools=tools, there=there)


def kubeconfig_of(place: Place) -> Path:
    """Return the credentials of an existing cluster; they are kept out of what is shown.

    Raises:
        KindInfraError: There is no cluster, it does not run, or its kubeconfig is missing.
    """
    if place.there is None:
        msg = f'there is no cluster "{place.name}"\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    if not place.there.running:
        msg = f'the kind nodes of cluster "{place.name}" do not run\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    directory = place.directory
    if directory is None and place.there.folder:
        why = why_unseen(RunDirectory(place.there.folder))
        msg = f'the credentials of cluster "{place.name}" cannot be read: {why}'
        raise KindInfraError(msg)
    if directory is None or not size_of(directory.kubeconfig):
        msg = f'the kubeconfig of cluster "{place.name}" is missing\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    place.tools.redactor.learn(credentials_in(directory.kubeconfig.read_text()))
    return directory.kubeconfig


_DELETE_SECONDS = 120.0


def down(cluster: str | None) -> str:
    """Delete the cluster and return a line that says what was done.

    Raises:
        KindInfraError: No run created it, it may be in use, or it could not be deleted.
    """
    place = look(cluster)
    if place.there is None:
        return f"there is no cluster {place.name}"
    if place.there.folder is None:
        delete = " ".join(place.tools.provider.delete_command(place.name))
        head = f'no run of pytest-kindinfra created cluster "{place.name}"'
        msg = f"{head}\nTo fix: if it is not in use: {delete}"
        raise KindInfraError(msg)
    directory = RunDirectory(place.there.folder)
    if why := why_unclear(directory, place.name):
        raise KindInfraError(_unclear(place, why))
    with locked_alone(directory.lock) as alone:
        if not alone:
            user = user_of(directory)
            msg = f'cluster "{place.name}" is in use by {user}\nTo fix: wait until it ends'
            raise KindInfraError(msg)
        done = _delete(place, directory)
        forget(directory)
    return done


def _unclear(place: Place, why: str) -> str:
    delete = shlex.join(place.tools.provider.delete_command(place.name))
    return (
        f'it is unknown whether cluster "{place.name}" is in use: {why}\n'
        f"To fix: if it is not in use: {delete}"
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """One service: why it is not ready (empty if it is), and endpoint to URL."""

    name: str
    why: str
    endpoints: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The reused cluster of a folder.

    Attributes:
        cluster: kind's name for it.
        kubeconfig: Its credentials; None if it cannot be used.
        services: Those that were brought up, sorted by name.
        problem: Why it cannot be used, or what stopped answering.
    """

    cluster: str
    kubeconfig: Path | None = None
    services: Sequence[ServiceState] = ()
    problem: str = ""

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
                yield f"    {name:<18} {url}"

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


def status(cluster: str | None) -> Status:
    """Return what there is of the cluster of the current folder.

    Args:
        cluster: kind's name for it if not what the options say.

    Raises:
        DeclarationError: The declaration or an option is wrong.
        KindInfraError: The engine does not answer.
    """
    place = look(cluster)
    try:
        kubeconfig = kubeconfig_of(place)
    except KindInfraError as error:
        return Status(cluster=place.name, problem=str(error))
    kube = Kube(kubeconfig)
    try:
        kube.wait_for_api(Deadline.after(_ANSWERS_WITHIN))
        directory = place.directory
        if directory and (why := why_unknown(directory, place.name)):
            return Status(cluster=place.name, kubeconfig=kubeconfig, problem=_unclear(place, why))
        return Status(cluster=place.name, kubeconfig=kubeconfig, services=_services(place, kube))
    except ClusterError as error:
        return Status(cluster=place.name, kubeconfig=kubeconfig, problem=str(error))
    finally:
        kube.close()


def _services(place: Place, kube: Kube) -> list[ServiceState]:
    directory = place.directory
    deployed = dict(deployed_services(directory)) if directory else {}
    specs = _specs() if deployed else {}
    return [
        ServiceState(
            name=name, why=_why_not_ready(name, state, kube, specs), endpoints=urls_of(state)
        )
        for name, state in sorted(deployed.items())
    ]


def urls_of(deployed: Deployed) -> dict[str, str]:
    """Return endpoint to URL of a service, in the order of declaration."""
    return {one.name: one.url for one in deployed.endpoints}


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


def logs(service: str | None, *, cluster: str | None, lines: int) -> Iterator[str]:
    """Yield each container's last lines, after a line that names it.

    Args:
        service: Whose pods; None means those of all services.
        cluster: kind's name for the cluster if not what the options say.
        lines: How many of each container.

    Raises:
        KindInfraError: There is no cluster, or it has no such service.
    """
    with connected(cluster) as (place, kube):
        for pod in kube.list_("/api/v1/pods", labelSelector=_selector(place, service)):
            for line in _of_pod(kube, pod, lines):
                yield place.tools.redactor.text(line)


def follow(
    service: str | None,
    *,
    cluster: str | None,
    lines: int,
    say: Callable[[str], object],
    is_read: Callable[[], bool],
) -> None:
    """Show the logs as they grow, also of pods that come later, as long as they are read.

    Args:
        service: Whose pods; None means those of all services.
        cluster: kind's name for the cluster if not what the options say.
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
            kube, selector, say=lambda line: say(redact(line)), is_read=is_read, lines=lines
        ).run()


@contextmanager
def connected(cluster: str | None) -> Iterator[tuple[Place, Kube]]:
    """Give the cluster of the current folder and its API, which is closed at the end.

    Raises:
        KindInfraError: There is no cluster, it does not run, or its kubeconfig is missing.
    """
    place = look(cluster)
    kube = Kube(kubeconfig_of(place))
    try:
        yield place, kube
    finally:
        kube.close()


def deployed_of(place: Place, service: str) -> Deployed:
    """Return the deployed state of a service.

    Raises:
        KindInfraError: It was never brought up on that cluster, or what is known of it cannot be
            read.
    """
    return _noted(Deployed, place, service)


def record_of(place: Place, service: str) -> DeployedService:
    """Return what is needed to change a service.

    Raises:
        KindInfraError: As `deployed_of`; or its last bring-up did not come to its end.
    """
    deployed_of(place, service)
    return _noted(DeployedService, place, service)


def _noted(kind: type[N], place: Place, service: str) -> N:
    """Return a note about a service in the cluster's reused directory."""
    directory = place.directory
    if directory and (why := why_unknown(directory, place.name)):
        raise KindInfraError(_unclear(place, why))
    known = services_in(directory) if directory else []
    if directory is None or service not in known:
        has = ", ".join(known) or "none"
        msg = f'cluster "{place.name}" has no service "{service}"; it has: {has}'
        if copies := [one for one in known if worker_of(one) and declared_name(one) == service]:
            msg = (
                f'cluster "{place.name}" has copies of service "{service}" for xdist workers only\n'
                f"To fix: name one of them: {', '.join(copies)}; or kindinfra up {service}"
            )
        raise KindInfraError(msg)
    try:
        found, why = directory.read(kind, service), "its last bring-up did not end well"
    except StateError as error:
        found, why = None, str(error)
    if found is None:
        msg = f'service "{service}" in cluster "{place.name}": {why}\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    return found


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

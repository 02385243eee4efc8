"""Commands about the reused cluster: where it is, `down`, `status`, `logs`."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.commands.images import settings_of
from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.kube.readiness import gates, readiness
from pytest_kindinfra.model import SERVICE_LABEL
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.run.prepare import cluster_name, read_declaration
from pytest_kindinfra.run.recipe import tear_down
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import held_alone
from pytest_kindinfra.state.reused import (
    deployed_services,
    forget,
    services_in,
    user_of,
    why_unclear,
    why_unknown,
    why_unseen,
)
from pytest_kindinfra.system.answers import prove_endpoint
from pytest_kindinfra.system.files import size_of
from pytest_kindinfra.system.secrets import credentials_in
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.model import Endpoint, EndpointSpec, KubeObject, ObservedCluster
    from pytest_kindinfra.state.records import Deployed


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
    name = cluster_name(settings, folder=folder, run_id="")
    tools = make_tools(settings.engine)
    there = tools.creator.observe(name, Deadline.after(ASK_SECONDS))
    return Place(name=name, tools=tools, there=there)


def kubeconfig_of(place: Place) -> Path:
    """Return the credentials of a cluster that is there; they are kept out of what is shown.

    Raises:
        KindInfraError: There is no cluster, it does not run, or nobody has its credentials.
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
        msg = f'nobody has the credentials of cluster "{place.name}"\nTo fix: kindinfra up'
        raise KindInfraError(msg)
    place.tools.redactor.learn(credentials_in(directory.kubeconfig.read_text()))
    return directory.kubeconfig


_DELETE_SECONDS = 120.0


def down(cluster: str | None) -> str:
    """Delete the cluster and return a line that says what was done.

    Raises:
        KindInfraError: It is none of ours, in use, that is unclear, or it could not be deleted.
    """
    place = look(cluster)
    if place.there is None:
        return f"there is no cluster {place.name}"
    if place.there.folder is None:
        delete = " ".join(place.tools.provider.delete_command(place.name))
        msg = f'no run of ours made cluster "{place.name}"\nTo fix: if nobody uses it: {delete}'
        raise KindInfraError(msg)
    directory = RunDirectory(place.there.folder)
    if why := why_unclear(directory, place.name):
        raise KindInfraError(_unclear(place, why))
    with held_alone(directory.lock) as alone:
        if not alone:
            user = user_of(directory)
            msg = f'cluster "{place.name}" is in use by {user}\nTo fix: wait for its end'
            raise KindInfraError(msg)
        done = _delete(place, directory)
        forget(directory)
    return done


def _unclear(place: Place, why: str) -> str:
    delete = shlex.join(place.tools.provider.delete_command(place.name))
    return (
        f'whether anybody uses cluster "{place.name}" is unclear: {why}\n'
        f"To fix: if nobody uses it: {delete}"
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


def status(cluster: str | None) -> Iterator[tuple[str, bool]]:
    """Yield lines, and whether what each tells of is well."""
    place = look(cluster)
    try:
        kubeconfig = kubeconfig_of(place)
    except KindInfraError as error:
        yield str(error), False
        return
    yield f"cluster {place.name}, export KUBECONFIG={kubeconfig}", True
    kube = Kube(kubeconfig)
    try:
        kube.wait_for_api(Deadline.after(_ANSWERS_WITHIN))
        yield from _services(place, kube)
    except ClusterError as error:
        yield str(error), False
    finally:
        kube.close()


def _services(place: Place, kube: Kube) -> Iterator[tuple[str, bool]]:
    directory = place.directory
    if directory and (why := why_unknown(directory, place.name)):
        yield _unclear(place, why), False
        return
    deployed = dict(deployed_services(directory)) if directory else {}
    if not deployed:
        yield "  no service was brought up", True
    specs = _specs()
    for name, state in sorted(deployed.items()):
        why = _why_not_ready(name, state, kube, specs)
        yield f"  {name:<20} {f'not ready: {why}' if why else 'ready'}", not why
        for one in state.endpoints:
            yield f"    {one.name:<18} {one.url}", True


def _specs() -> Mapping[tuple[str, str], EndpointSpec]:
    from pathlib import Path

    declared = read_declaration(declaration_folder(Path.cwd())).services
    return {(one.name, spec.name): spec for one in declared for spec in one.endpoints}


def _why_not_ready(
    name: str, deployed: Deployed, kube: Kube, specs: Mapping[tuple[str, str], EndpointSpec]
) -> str:
    if not deployed.ready:
        return "its last bring-up did not end well"
    for obj in deployed.objects:
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
    deadline = Deadline.after(min(_ANSWERS_WITHIN, ASK_SECONDS))
    try:
        prove_endpoint(
            name,
            spec,
            host=endpoint.host,
            host_port=endpoint.port,
            node=None,
            deadline=deadline,
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
    place = look(cluster)
    kube = Kube(kubeconfig_of(place))
    try:
        _refuse_unknown(place, service)
        label = f"{SERVICE_LABEL}={service}" if service else SERVICE_LABEL
        for pod in kube.list_("/api/v1/pods", labelSelector=label):
            for line in _of_pod(kube, pod, lines):
                yield place.tools.redactor.text(line)
    finally:
        kube.close()


def _refuse_unknown(place: Place, service: str | None) -> None:
    known = services_in(place.directory) if place.directory else []
    if service and service not in known:
        msg = f'cluster "{place.name}" has no service "{service}"; it has: {", ".join(known)}'
        raise KindInfraError(msg)


def _of_pod(kube: Kube, pod: KubeObject, lines: int) -> Iterator[str]:
    meta, spec = pod["metadata"], pod["spec"]
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        where = f"{meta['labels'][SERVICE_LABEL]}: {meta['namespace']}/{meta['name']}"
        yield f"==> {where} {container['name']} <=="
        try:
            text = kube.pod_logs(meta["namespace"], meta["name"], container["name"], lines=lines)
        except KindInfraError as error:
            text = f"({error})"
        yield from text.splitlines()

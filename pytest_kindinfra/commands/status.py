"""`kindinfra status`: the cluster that runs with reuse share, and how each service is just now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.commands.place import ASK_SECONDS, kubeconfig_of, look
from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError
from pytest_kindinfra.finding import declaration_folder
from pytest_kindinfra.kube import Kube
from pytest_kindinfra.ledger import by_service
from pytest_kindinfra.model import url_of
from pytest_kindinfra.planning import read_declaration
from pytest_kindinfra.steps.expose import prove_endpoint
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.workloads import gates, readiness

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kindinfra.commands.place import Place
    from pytest_kindinfra.ledger import Entry
    from pytest_kindinfra.model import EndpointSpec, KubeObject

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
    home = place.home
    entries = dict(by_service(home)) if home else {}
    if not entries:
        yield "  no service was brought up", True
    specs = _specs()
    for name, entry in sorted(entries.items()):
        why = _why_not_ready(name, entry, kube, specs)
        yield f"  {name:<20} {f'not ready: {why}' if why else 'ready'}", not why
        for one in entry.endpoints:
            yield f"    {one['name']:<18} {url_of(one['scheme'], one['host'], one['port'])}", True


def _specs() -> Mapping[tuple[str, str], EndpointSpec]:
    from pathlib import Path

    declared = read_declaration(declaration_folder(Path.cwd())).services
    return {(one.name, spec.name): spec for one in declared for spec in one.endpoints}


def _why_not_ready(
    name: str, entry: Entry, kube: Kube, specs: Mapping[tuple[str, str], EndpointSpec]
) -> str:
    if not entry.ready:
        return "its last bring-up did not end well"
    for obj in entry.objects:
        if why := _why_object(obj, kube):
            return why
    for one in entry.endpoints:
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
    name: str, record: Mapping[str, Any], specs: Mapping[tuple[str, str], EndpointSpec]
) -> str:
    if (spec := specs.get((name, record["name"]))) is None:
        return ""
    deadline = Deadline.after(min(_ANSWERS_WITHIN, ASK_SECONDS))
    try:
        prove_endpoint(
            name,
            spec,
            host=record["host"],
            host_port=record["port"],
            node=None,
            deadline=deadline,
        )
    except NotReadyError as error:
        return str(error)
    return ""

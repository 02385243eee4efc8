"""Services per worker: the one place where a plan gets a copy of them for each xdist worker.

Everything behind it sees services like any others, with names such as `web.gw1` and namespaces
such as `default-gw1`. Pure.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.kube.objects import Written, containers, node_ports, place_of
from pytest_kindinfra.names import (
    copy_name,
    copy_namespace,
    worker_name,
    worker_of,
)
from pytest_kindinfra.plan.ports import LOWEST_NODE_PORT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pytest_kindinfra.model import KubeObject, Plan, PortMapping, Release, Service
    from pytest_kindinfra.plan.facts import Facts


_LONGEST = 63
"""Letters of a label's value and of a namespace's name."""


_LONGEST_WORKER = len("-gw99")


# -- what cannot be copied -----------------------------------------------------------------------


def problems_of_copies(facts: Facts) -> Iterator[str]:
    """Say what cannot be there once for each worker."""
    apart = {name for name, one in facts.services.items() if one.per == "worker"}
    namespace = facts.declaration.cluster.namespace
    if apart and len(namespace) > _LONGEST - _LONGEST_WORKER:
        yield (
            f'[cluster] namespace is "{namespace}", but workers have namespaces of their own, such '
            f'as "{copy_namespace(namespace, "gw0")}", which would be longer than {_LONGEST} '
            "letters; to fix: shorten it"
        )
    for service in facts.services.values():
        if service.name not in apart:
            yield from _needs_of_shared(service, apart)
            continue
        yield from _problems_of_service(service)
        for obj in facts.objects[service.name]:
            yield from _problems_of_object(facts, service, obj)


def _needs_of_shared(service: Service, apart: Collection[str]) -> Iterator[str]:
    for need in service.needs:
        if need.name in apart:
            yield (
                f'[services.{service.name}] needs "{need.name}", of which each worker has a copy: '
                f"a shared service has no worker; to fix: give [services.{service.name}] per = "
                f'"worker" too, or take it from [services.{need.name}]'
            )


def _problems_of_service(service: Service) -> Iterator[str]:
    place = f'[services.{service.name}] has per = "worker"'
    if len(service.name) > _LONGEST - _LONGEST_WORKER:
        yield f"{place}, so its name may have {_LONGEST - _LONGEST_WORKER} letters; shorten it"
    if service.before:
        yield (
            f'{place} and before = "{service.before}", which is for a service that the cluster has'
            " once; remove one of the two keys"
        )
    if service.helm and service.helm.namespace:
        yield (
            f"{place}, but helm.namespace would put all copies into one; to fix: leave out "
            "helm.namespace"
        )
    for spec in service.endpoints:
        for key, port in (("host_port", spec.host_port), ("node_port", spec.node_port)):
            if port:
                yield (
                    f"{place}, but endpoints.{spec.name} has {key} = {port}, which only one copy "
                    f"could have; to fix: leave out {key}"
                )
        if spec.expose == "ingress":
            yield (
                f'{place}, but endpoints.{spec.name} has expose = "ingress", and all copies would '
                "have the same host; to fix: leave out expose"
            )


def _problems_of_object(facts: Facts, service: Service, obj: KubeObject) -> Iterator[str]:
    where = f"{place}, " if (place := place_of(obj)) else ""
    noun = f'{obj["kind"]} "{obj["metadata"]["name"]}"'
    begin = f'[services.{service.name}] has per = "worker", but {where}{noun}'
    release = facts.rendered.releases.get(service.name)
    made = release if release and any(obj is one for one in release.objects) else None
    if not facts.identity(obj, made).namespace:
        yield (
            f"{begin} is in no namespace, so there can be only one; to fix: give it to a shared "
            f'service that "{service.name}" needs'
        )
        return
    namespace = obj["metadata"].get("namespace")
    if namespace and not (made and namespace == made.namespace):
        yield (
            f'{begin} names the namespace "{namespace}", so all copies would be one; to fix: leave '
            "metadata.namespace out"
        )
    for port in node_ports(obj):
        yield f"{begin} has nodePort {port.node_port}; to fix: leave it out, an endpoint gets one"
    for container in containers(obj):
        for entry in container.get("ports") or ():
            if isinstance(entry, dict) and entry.get("hostPort"):
                yield (
                    f"{begin} has hostPort {entry['hostPort']}, which only one pod can have; to "
                    "fix: leave it out"
                )


# -- copies --------------------------------------------------------------------------------------


def with_copies(plan: Plan, workers: Sequence[str], *, ports_for: int = 0) -> Plan:
    """Return the plan with a copy of each service per worker for each of these workers.

    Args:
        plan: What was resolved.
        workers: Those of the run; none without xdist, which has one copy in the declared
            namespace.
        ports_for: Of a cluster that outlives the run: for so many workers at least it has ports,
            and for a run without xdist too. 0 means just those that the run needs.
    """
    if not any(one.per == "worker" for one in plan.declaration.services):
        return plan
    mapped = dict.fromkeys((*workers, *(worker_name(one) for one in range(ports_for))))
    ports = _ports(plan, tuple(mapped), own=not workers or ports_for > 0)
    if not workers:
        return replace(plan, ports=ports)
    return replace(_expanded(plan, workers), ports=ports)


class _Member(NamedTuple):
    """A service of the expanded plan, and what it has instead of the declared one's."""

    service: Service
    declared: str
    objects: tuple[KubeObject, ...]
    release: Release | None


def _expanded(plan: Plan, workers: Sequence[str]) -> Plan:
    members = [one for service in plan.services for one in _members(plan, service, workers)]
    declared = plan.declaration.cluster.namespace
    return replace(
        plan,
        services=tuple(one.service for one in members),
        objects={one.service.name: one.objects for one in members},
        image_uses={one.service.name: plan.image_uses.get(one.declared, {}) for one in members},
        external={one.service.name: plan.external.get(one.declared, ()) for one in members},
        releases={one.service.name: one.release for one in members if one.release},
        namespaces={
            one.service.name: copy_namespace(declared, one.service.worker)
            for one in members
            if one.service.worker
        },
    )


def _members(plan: Plan, service: Service, workers: Sequence[str]) -> Iterator[_Member]:
    """Yield the copies of a service, or the service itself if it is shared."""
    objects, release = plan.objects.get(service.name, ()), plan.releases.get(service.name)
    if service.per != "worker":
        yield _Member(service, service.name, objects, release)
        return
    apart = {one.name for one in plan.services if one.per == "worker"}
    declared = plan.declaration.cluster.namespace
    for worker in workers:
        copy, where = _copy(service, worker, apart), copy_namespace(declared, worker)
        yield _Member(copy, service.name, *_moved(objects, release, declared, where))


def _copy(service: Service, worker: str, apart: Collection[str]) -> Service:
    """Return a worker's copy: its endpoints lead to what the service's own lead to."""
    return replace(
        service,
        name=copy_name(service.name, worker),
        worker=worker,
        needs=tuple(
            replace(need, name=copy_name(need.name, worker)) if need.name in apart else need
            for need in service.needs
        ),
        endpoints=tuple(
            spec if spec.workload else replace(spec, service=spec.service or service.name)
            for spec in service.endpoints
        ),
    )


def _moved(
    objects: Sequence[KubeObject], release: Release | None, declared: str, namespace: str
) -> tuple[tuple[KubeObject, ...], Release | None]:
    """Return objects and release in another namespace; what is in both stays one object."""
    charted = release.objects if release else ()
    before = release.namespace if release else declared
    moved = {id(obj): _in_namespace(obj, {declared, before}, namespace) for obj in charted}
    for obj in objects:
        moved.setdefault(id(obj), _in_namespace(obj, {declared, before}, namespace))
    there = tuple(moved[id(obj)] for obj in objects)
    if release is None:
        return there, None
    return there, replace(
        release, namespace=namespace, objects=tuple(moved[id(obj)] for obj in charted)
    )


def _in_namespace(obj: KubeObject, before: Collection[str], namespace: str) -> KubeObject:
    """Return an object whose namespaces, also those of subjects, are another one."""
    made = Written(obj, place=place_of(obj))
    if obj["metadata"].get("namespace"):
        made["metadata"] = {**obj["metadata"], "namespace": namespace}
    subjects = obj.get("subjects")
    if obj["kind"] == "RoleBinding" and isinstance(subjects, list):
        # The API wants a namespace there, so that manifests cannot leave it out.
        made["subjects"] = [
            {**one, "namespace": namespace}
            if isinstance(one, dict) and one.get("namespace") in before
            else one
            for one in subjects
        ]
    return made


def _ports(plan: Plan, workers: Sequence[str], *, own: bool) -> tuple[PortMapping, ...]:
    """Return the mappings with those of copies, before the spare ones.

    Args:
        plan: What was resolved.
        workers: Who gets ports for all declared endpoints of services per worker.
        own: Whether the declared service keeps its own, for runs without workers.
    """
    apart = {one.name for one in plan.declaration.services if one.per == "worker"}
    objects = (obj for found in plan.objects.values() for obj in found)
    written = {port.node_port for obj in objects for port in node_ports(obj)}
    used = written | {one.node_port for one in plan.ports}
    free = (port for port in count(LOWEST_NODE_PORT) if port not in used)
    declared = [one for one in plan.ports if one.service in apart]
    copied = [
        replace(one, service=copy_name(one.service, worker), node_port=next(free))
        for worker in workers
        for one in declared
    ]
    kept = [one for one in plan.ports if one.service and (own or one.service not in apart)]
    return (*kept, *copied, *(one for one in plan.ports if not one.service))


def near_objects(plan: Plan, service: Service) -> tuple[KubeObject, ...]:
    """Return the objects that an endpoint of a service may lead to: its own come first.

    Those of other workers' copies are not among them; what is in another namespace names it.
    """
    declared = plan.declaration.cluster.namespace
    where = plan.namespaces.get(service.name, declared)
    found = list(plan.objects.get(service.name, ()))
    for name, objects in plan.objects.items():
        if name != service.name and worker_of(name) in {"", service.worker}:
            other = plan.namespaces.get(name, declared)
            found += objects if other == where else [_placed(obj, other) for obj in objects]
    return tuple(found)


def _placed(obj: KubeObject, namespace: str) -> KubeObject:
    return {**obj, "metadata": {"namespace": namespace, **obj["metadata"]}}

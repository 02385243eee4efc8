"""Whether something makes what objects need: the kinds and namespaces that they are of. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.errors import did_you_mean
from pytest_kindinfra.kube.kinds import builtin_fault, may_be_custom
from pytest_kindinfra.kube.objects import place_of
from pytest_kindinfra.kube.origins import (
    NAMESPACES,
    cluster_scoped,
    defined_kinds,
    made_namespaces,
    pods_may_make,
    serves,
    unserved,
)
from pytest_kindinfra.plan.graph import cycles, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.plan.facts import Facts


def origin_problems(facts: Facts, wanted: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Say which namespaces and kinds nothing in the plan brings."""
    if facts.unread or any(name not in facts.services for name in wanted):
        return
    if cycles(facts.needs) or any(need not in facts.needs for need in _all_needs(facts)):
        return
    planned = in_order([*facts.before_nodes(), *wanted], facts.needs)
    for name in facts.services:
        makers = facts.makers_for(name, planned)
        near = [obj for maker in makers for obj in facts.objects[maker]]
        yield from _kinds_nobody_serves(facts, name, near, makers)
        if _may_be_made(facts, near, makers, "namespaces"):
            continue
        yield from _mistaken_namespaces(facts, name, near, makers)


def _all_needs(facts: Facts) -> Iterator[str]:
    return (need for needs in facts.needs.values() for need in needs)


def _may_be_made(
    facts: Facts, near: Sequence[KubeObject], makers: Iterable[str], resource: str
) -> bool:
    """Whether something whose objects are not known beforehand may make it."""
    steps = any(facts.services[maker].run for maker in makers)
    return not facts.cluster.only_planned or steps or pods_may_make(near, resource)


def _kinds_nobody_serves(
    facts: Facts, name: str, near: Sequence[KubeObject], makers: Sequence[str]
) -> Iterator[str]:
    unseen = _may_be_made(facts, near, makers, "kind")
    # An old cluster of others may still serve what newer ones do not.
    served_by = (1, 0) if facts.cluster.existing else facts.cluster.kubernetes
    reported = set()
    for obj in facts.objects[name]:
        version, kind = str(obj["apiVersion"]), obj["kind"]
        if (version, kind) in reported:
            continue
        reported.add((version, kind))
        if not may_be_custom(version):
            fault = builtin_fault(version, kind, served_by=served_by)
            if fault and not serves(near, version, kind):
                yield f'{_place(name, obj)}: no kind "{kind}" in apiVersion "{version}": {fault}'
        elif unserved(obj, near) and not unseen:
            yield f"{_place(name, obj)}: {_unserved_kind(facts, version, kind, near)}"


def _unserved_kind(facts: Facts, version: str, kind: str, near: Sequence[KubeObject]) -> str:
    known = {
        f"{group}/{number} {one}" for (group, one), all_ in defined_kinds(near).items()
        for number in all_
    }  # fmt: skip
    hint = did_you_mean(f"{version} {kind}", known)
    fix = "add that to its manifests or to those of a service it needs, or leave the object out"
    if other := _who(facts, lambda objects: serves(objects, version, kind)):
        fix = f'service "{other}" has it: add it to the needs'
    return (
        f'no CustomResourceDefinition in the plan defines kind "{kind}" of {version}{hint}; '
        f"to fix: {fix}"
    )


def _mistaken_namespaces(
    facts: Facts, name: str, near: Sequence[KubeObject], makers: Iterable[str]
) -> Iterator[str]:
    """Say which namespaces nothing creates, if they are near misses or helm's to find there.

    Any other is made when the service is deployed.
    """
    releases = facts.rendered.releases
    there = NAMESPACES | {facts.declaration.cluster.namespace} | made_namespaces(near)
    there |= {releases[maker].namespace for maker in makers if maker in releases}
    reported: set[object] = set()
    for obj in facts.objects[name]:
        namespace = obj["metadata"].get("namespace")
        if not namespace or namespace in there | reported or cluster_scoped(obj, near):
            continue
        reported.add(namespace)
        hint = did_you_mean(str(namespace), there)
        fix = f'add a Namespace "{namespace}" to its manifests or to those of a service it needs'
        if other := _who(facts, lambda objects: namespace in made_namespaces(objects)):  # noqa: B023
            fix = f'service "{other}" creates it: add it to the needs'
        if not (hint or other or name in releases):
            continue  # made when the service is deployed
        yield (
            f'{_place(name, obj)} is in namespace "{namespace}", which nothing in the plan creates'
            f"{hint}; to fix: {fix}"
        )


def _who(facts: Facts, makes: Callable[[Sequence[KubeObject]], bool]) -> str:
    return next((name for name, objects in facts.objects.items() if makes(objects)), "")


def _place(name: str, obj: KubeObject) -> str:
    """Return the service, and where in its files an object stands."""
    where = f"{place}, " if (place := place_of(obj)) else ""
    return f'[services.{name}] {where}{obj["kind"]} "{obj["metadata"]["name"]}"'

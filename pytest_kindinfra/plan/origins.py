"""Whether something makes what objects need: the kinds and namespaces that they are of. Pure.

A namespace or a kind that nothing brings can be told before anything is built, but only where
nothing else could: a pod that may create it is a maker too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import did_you_mean
from pytest_kindinfra.kube.kinds import CLUSTER_SCOPED, GROUPS, builtin_fault, may_be_custom
from pytest_kindinfra.kube.objects import group, place_of
from pytest_kindinfra.plan.graph import cycles, in_order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.plan.facts import Facts


NAMESPACES = frozenset(
    {"default", "kube-system", "kube-public", "kube-node-lease", "local-path-storage"}
)
"""Those of a new kind cluster."""


_CRD_GROUP = "apiextensions.k8s.io"


_SPREADING = frozenset({"bind", "escalate", "impersonate"})
"""Verbs by which a pod gets rights that no role of the plan gives it."""


_EVERYTHING = frozenset({"cluster-admin"})


_NAMESPACED_ONLY = frozenset({"admin", "edit"})


_NOTHING = frozenset({"view"})


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
            if fault and not _serves(near, version, kind):
                yield f'{_place(name, obj)}: no kind "{kind}" in apiVersion "{version}": {fault}'
        elif _unserved(obj, near) and not unseen:
            yield f"{_place(name, obj)}: {_unserved_kind(facts, version, kind, near)}"


def _unserved_kind(facts: Facts, version: str, kind: str, near: Sequence[KubeObject]) -> str:
    known = {
        f"{group}/{number} {one}" for (group, one), all_ in _defined_kinds(near).items()
        for number in all_
    }  # fmt: skip
    hint = did_you_mean(f"{version} {kind}", known)
    fix = "add that to its manifests or to those of a service it needs, or leave the object out"
    if other := _who(facts, lambda objects: _serves(objects, version, kind)):
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
        if not namespace or namespace in there | reported or _cluster_scoped(obj, near):
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


def made_namespaces(objects: Iterable[KubeObject]) -> set[str]:
    """Return the names of the Namespaces among the objects."""
    return {obj["metadata"]["name"] for obj in objects if _is(obj, "", "Namespace")}


def _defined_kinds(objects: Iterable[KubeObject]) -> dict[tuple[str, str], set[str]]:
    """Return `(group, kind)` to the versions that the CRDs among the objects bring."""
    found: dict[tuple[str, str], set[str]] = {}
    for spec in _specs(objects, _CRD_GROUP, "CustomResourceDefinition"):
        names = spec.get("names")
        kind = names.get("kind") if isinstance(names, dict) else None
        versions = [one.get("name") for one in _tables(spec.get("versions"))]
        versions += [spec.get("version")]
        key = (str(spec.get("group")), str(kind))
        found.setdefault(key, set()).update(str(one) for one in versions if one)
    return found


def _cluster_scoped(obj: KubeObject, objects: Iterable[KubeObject]) -> bool:
    """Whether an object is in no namespace, whatever it says; unknown kinds are taken for such."""
    if group(obj) in GROUPS:
        return obj["kind"] in CLUSTER_SCOPED
    return not any(
        spec.get("group") == group(obj)
        and (spec.get("names") or {}).get("kind") == obj["kind"]
        and spec.get("scope") == "Namespaced"
        for spec in _specs(objects, _CRD_GROUP, "CustomResourceDefinition")
    )


def _serves(objects: Sequence[KubeObject], version: str, kind: str) -> bool:
    """Whether the objects bring a kind: by a CRD, or by an API server of their own."""
    name, _, number = version.rpartition("/")
    if number in _defined_kinds(objects).get((name, kind), set()):
        return True
    return any(
        spec.get("group") == name
        for spec in _specs(objects, "apiregistration.k8s.io", "APIService")
    )


def brings(objects: Sequence[KubeObject], resource: str, name: str) -> bool:
    """Whether applying the objects brings what is missing.

    Args:
        objects: Those of a service.
        resource: The plural name of what is missing, or `kind`.
        name: Its name; of a kind `VERSION/KIND`.
    """
    if resource == "kind":
        version, _, kind = name.rpartition("/")
        return _serves(objects, version, kind)
    plural = resource.lower()
    return any(
        obj["metadata"]["name"] == name and _plural(obj["kind"]) == plural for obj in objects
    )


def pods_may_make(objects: Sequence[KubeObject], resource: str) -> bool:
    """Whether a role that the objects bind lets pods create what is missing.

    Args:
        objects: Those of all services that come into question.
        resource: The plural name of what is missing, or `kind`.
    """
    wanted = "customresourcedefinitions" if resource == "kind" else resource
    everywhere = wanted in {"namespaces", "customresourcedefinitions"}
    kinds = ("ClusterRoleBinding",) if everywhere else ("ClusterRoleBinding", "RoleBinding")
    return any(
        _role_may(obj.get("roleRef"), wanted, objects, everywhere=everywhere)
        for obj in objects
        if obj["kind"] in kinds and group(obj) == "rbac.authorization.k8s.io"
    )


def _role_may(ref: Any, wanted: str, objects: Sequence[KubeObject], *, everywhere: bool) -> bool:
    name = ref.get("name") if isinstance(ref, dict) else None
    if name in _EVERYTHING:
        return True
    if name in _NAMESPACED_ONLY:
        return not everywhere
    if name in _NOTHING or str(name).startswith("system:"):
        return False
    roles = [
        obj
        for obj in objects
        if obj["kind"] in {"ClusterRole", "Role"} and obj["metadata"]["name"] == name
    ]
    return not roles or any(_may(role, wanted) for role in roles)  # one not seen may do anything


def _may(role: KubeObject, wanted: str) -> bool:
    if role.get("aggregationRule"):
        return True
    for rule in _tables(role.get("rules")):
        verbs = _texts(rule.get("verbs"))
        if verbs & _SPREADING:
            return True
        if verbs & {"create", "*"} and _texts(rule.get("resources")) & {wanted, "*"}:
            return True
    return False


def _unserved(obj: KubeObject, objects: Sequence[KubeObject]) -> bool:
    """Whether an object's kind must come with a CRD that the objects do not bring."""
    version = str(obj["apiVersion"])
    return may_be_custom(version) and not _serves(objects, version, obj["kind"])


def _specs(objects: Iterable[KubeObject], name: str, kind: str) -> Iterator[dict[str, Any]]:
    for obj in objects:
        spec = obj.get("spec")
        if _is(obj, name, kind) and isinstance(spec, dict):
            yield spec


def _is(obj: KubeObject, name: str, kind: str) -> bool:
    return obj["kind"] == kind and group(obj) == name


def _plural(kind: str) -> str:
    word = kind.lower()
    if word.endswith("s"):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def _tables(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> set[str]:
    return {str(one) for one in value} if isinstance(value, list) else set()

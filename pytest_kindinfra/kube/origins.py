"""What objects bring into a cluster besides themselves: namespaces, kinds, and pods with rights.

A namespace or a kind that nothing brings can be told before anything is built, but only where
nothing else could: a pod that may create it is a maker too. Pure; works on parsed objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.kinds import CLUSTER_SCOPED, GROUPS, may_be_custom
from pytest_kindinfra.kube.objects import group

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_kindinfra.model import KubeObject


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


def made_namespaces(objects: Iterable[KubeObject]) -> set[str]:
    """Return the names of the Namespaces among the objects."""
    return {obj["metadata"]["name"] for obj in objects if _is(obj, "", "Namespace")}


def defined_kinds(objects: Iterable[KubeObject]) -> dict[tuple[str, str], set[str]]:
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


def cluster_scoped(obj: KubeObject, objects: Iterable[KubeObject]) -> bool:
    """Whether an object is in no namespace, whatever it says; unknown kinds are taken for such."""
    if group(obj) in GROUPS:
        return obj["kind"] in CLUSTER_SCOPED
    return not any(
        spec.get("group") == group(obj)
        and (spec.get("names") or {}).get("kind") == obj["kind"]
        and spec.get("scope") == "Namespaced"
        for spec in _specs(objects, _CRD_GROUP, "CustomResourceDefinition")
    )


def serves(objects: Sequence[KubeObject], version: str, kind: str) -> bool:
    """Whether the objects bring a kind: by a CRD, or by an API server of their own."""
    name, _, number = version.rpartition("/")
    if number in defined_kinds(objects).get((name, kind), set()):
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
        return serves(objects, version, kind)
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


def unserved(obj: KubeObject, objects: Sequence[KubeObject]) -> bool:
    """Whether an object's kind must come with a CRD that the objects do not bring."""
    version = str(obj["apiVersion"])
    return may_be_custom(version) and not serves(objects, version, obj["kind"])


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

"""What a user may do in a cluster: asked by access reviews, before anything is built."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.discovery import UnknownKindError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject


_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


_AT_ONCE = 8


_OF_OBJECTS = ("create", "delete", "get", "list", "patch")
"""Server-side apply is a patch that creates (kubernetes.io, "Server-Side Apply")."""


_OF_GROUPS = {
    ("", "configmaps"): ("create", "get", "update", "watch"),
    ("coordination.k8s.io", "leases"): ("create", "delete", "get", "list", "update"),
}
"""What runs that share a stack do in its namespace: see `kube/leases.py`."""


class Right(NamedTuple):
    """A verb on a resource.

    Attributes:
        verb: `create`.
        group: The API group, empty for the core one.
        resource: `deployments`, or with a subresource `pods/portforward`.
        namespace: Where; empty for the whole cluster.
    """

    verb: str
    group: str
    resource: str
    namespace: str


def rights_for(
    reader: Reader,
    objects: Iterable[tuple[KubeObject, str]],
    namespace: str,
    *,
    forwards: bool,
    grouped: bool = False,
) -> list[Right]:
    """Return what a run needs to do with its objects in an existing cluster.

    Kinds that the cluster does not have yet are left out: their definitions are among the objects.

    Args:
        reader: The cluster.
        objects: Each with the namespace where it goes if it names none.
        namespace: The run's own, which it holds by a Lease.
        forwards: Endpoints are forwarded to pods.
        grouped: It shares its stack with other runs, the last of which deletes the namespace.
    """
    rights = {
        Right("create", "coordination.k8s.io", "leases", namespace): None,
        Right("delete", "coordination.k8s.io", "leases", namespace): None,
        Right("list", "", "pods", namespace): None,
    }
    if forwards:
        rights[Right("create", "", "pods/portforward", namespace)] = None
    if grouped:
        rights |= dict.fromkeys(_of_group(namespace))
    if not _exists(reader, f"/api/v1/namespaces/{namespace}"):
        for verb in ("create", "delete") if grouped else ("create",):
            rights[Right(verb, "", "namespaces", "")] = None
    for obj, place in objects:
        for right in _of_object(reader, obj, place):
            rights[right] = None
    return list(rights)


def _of_group(namespace: str) -> Iterator[Right]:
    for (group, resource), verbs in _OF_GROUPS.items():
        for verb in verbs:
            yield Right(verb, group, resource, namespace)


def _exists(reader: Reader, path: str) -> bool:
    try:
        return reader.get(path) is not None
    except ApiError as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        return True  # for all that is known


def _of_object(reader: Reader, obj: KubeObject, place: str) -> Iterator[Right]:
    try:
        path = reader.path_of(obj, namespace=place).split("/")
        namespaced = reader.is_namespaced(obj)
    except UnknownKindError:
        return
    group = path[2] if path[1] == "apis" else ""
    where = (obj["metadata"].get("namespace") or place) if namespaced else ""
    for verb in _OF_OBJECTS:
        yield Right(verb, group, path[-2], where)


def missing_rights(reader: Reader, rights: Iterable[Right]) -> list[Right]:
    """Return those that the user does not have; none if the cluster does not say."""
    if _may(reader, Right("*", "*", "*", "")):
        return []
    wanted = list(rights)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(lambda right: _may(reader, right), wanted))
    return [right for right, allowed in zip(wanted, answers, strict=True) if not allowed]


def _may(reader: Reader, right: Right) -> bool:
    resource, _, sub = right.resource.partition("/")
    attributes: dict[str, Any] = {"verb": right.verb, "group": right.group, "resource": resource}
    attributes |= {"subresource": sub} if sub else {}
    attributes |= {"namespace": right.namespace} if right.namespace else {}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    try:
        answer = reader.request("POST", _REVIEWS, body=review)
    except ApiError as error:
        if error.status in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
            return True
        raise
    return bool((answer.get("status") or {}).get("allowed"))


def shown(rights: Iterable[Right]) -> list[str]:
    """Return rights as people read them: `create, patch deployments.apps in namespace "team"`."""
    verbs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for right in rights:
        name = f"{right.resource}.{right.group}" if right.group else right.resource
        where = f'in namespace "{right.namespace}"' if right.namespace else "in the whole cluster"
        verbs[name, where].append(right.verb)
    return [f"{', '.join(found)} {name} {where}" for (name, where), found in verbs.items()]

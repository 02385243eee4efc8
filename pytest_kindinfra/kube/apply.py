"""Server-side apply, patient with what passes by itself and with nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.kube.client import (
    SERVER_ERROR,
    ApiError,
    Request,
    Transport,
    delete_if,
    fetch,
)
from pytest_kindinfra.kube.discovery import NOT_FOUND, Discovery, Resource, UnknownKindError
from pytest_kindinfra.timeline import monotonic, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.timeline import Deadline

MANAGER = {"fieldManager": "kindinfra"}
APPLY = MANAGER | {"force": "true"}
INVALID = 422
CONFLICT = 409
PASSING_STATUS = frozenset({NOT_FOUND, CONFLICT, 429})
"""Not found: the namespace, or a CRD that is not served yet. Conflict: another writer."""
PASSING_TEXT = ("error looking up service account", "is being terminated", "failed calling webhook")
UNSURE = frozenset({401, 403})
UNSURE_TEXT = ("Unauthorized", " cannot ")
UNSURE_GRACE = 10.0
"""An API server that was started again refuses everybody until it has read the roles."""
REFUSED_TEXT = "failed to create typed patch object"
"""A field that the schema does not know; the server calls it an internal error."""
TWICE_TEXT = "duplicate entries for key"
"""An environment variable or a port that is named twice: server-side apply cannot take what
`kubectl apply` and `kubectl create` do, so such an object is created, or merged."""
FIXED_KINDS = frozenset({"Job", "Pod"})
FIXED_TEXT = ("field is immutable", "pod updates may not change fields")
IMMUTABLE_TEXT = (
    "immutable",
    "may not change once set",
    "updates to statefulset spec for fields other than",
)
"""How the API server refuses to change what is fixed from an object's creation on."""


class Applier:
    """Applies objects to one cluster."""

    def __init__(
        self,
        transport: Transport,
        discovery: Discovery,
        *,
        may_replace: Callable[[KubeObject], bool] = lambda _: True,
    ) -> None:
        self._transport = transport
        self._discovery = discovery
        self._may_replace = may_replace

    def apply(self, obj: KubeObject, *, namespace: str, deadline: Deadline) -> KubeObject:
        """Apply `obj` and return it as the server stored it.

        Raises:
            ApiError: The server refused it, or still did at the deadline.
            UnknownKindError: There is no such kind, or there still was none.
            ClusterError: The server did not answer until the deadline.
        """
        pause, sure_from = 0.05, monotonic() + UNSURE_GRACE
        while True:
            deadline.check()
            last = deadline.passed
            try:
                return self._apply_once(obj, namespace, deadline)
            except KindInfraError as error:
                unsure = _is_unsure(error) and monotonic() < sure_from
                if last or not (unsure or passes(error)):
                    raise _about(error, obj, namespace) from None
            deadline.pause(pause)
            pause = min(1.0, pause * 2)

    def _apply_once(self, obj: KubeObject, namespace: str, deadline: Deadline) -> KubeObject:
        resource = self._discovery.resource(obj)
        complete = completed(obj, resource, namespace)
        meta = complete["metadata"]
        path = resource.path(meta["name"], meta.get("namespace", ""))
        try:
            applied = self._patch(path, complete)
        except ApiError as error:
            if not _must_be_made_anew(error, obj):
                raise
            if not (uid := delete_if(self._transport, path, self._may_replace)) and self._fetch(
                path
            ):
                raise
        else:
            if not is_ending(applied):
                return applied
            uid = applied["metadata"]["uid"]
        self._await_end(path, uid, deadline)
        return self._patch(path, complete)

    def _patch(self, path: str, obj: KubeObject) -> KubeObject:
        try:
            return self._send("PATCH", path, obj, "application/apply-patch+yaml")
        except ApiError as error:
            if TWICE_TEXT not in error.message:
                raise
        try:
            return self._send("POST", path.rpartition("/")[0], obj, "application/json")
        except ApiError as error:
            if error.status != CONFLICT:
                raise
        return self._send("PATCH", path, obj, "application/merge-patch+json")

    def _send(self, method: str, path: str, obj: KubeObject, content_type: str) -> KubeObject:
        query = APPLY if "apply" in content_type else MANAGER
        request = Request(method, path, obj, query, content_type)
        answer: KubeObject = json.loads(self._transport.send(request))
        return answer

    def _await_end(self, path: str, uid: str, deadline: Deadline) -> None:
        if not wait_until(lambda: not is_there(self._fetch(path), uid), deadline, every=0.1):
            msg = f"{path} was to be made anew, but its old self does not go away"
            raise ClusterError(msg)

    def _fetch(self, path: str) -> KubeObject | None:
        return fetch(self._transport, path)


def is_there(found: KubeObject | None, uid: str) -> bool:
    """Whether what was found is still the object of that uid, and not another of its name."""
    return found is not None and found["metadata"].get("uid") == uid


def is_ending(obj: KubeObject) -> bool:
    """Whether an object is there only until its finalizers or its pod's grace period are done."""
    return "deletionTimestamp" in obj["metadata"]


def passes(error: KindInfraError) -> bool:
    """Whether what `error` says is known to pass by itself."""
    if isinstance(error, UnknownKindError):
        return error.may_come
    if not isinstance(error, ApiError):
        return isinstance(error, ClusterError)
    if REFUSED_TEXT in error.message:
        return False
    by_status = error.status in PASSING_STATUS or error.status >= SERVER_ERROR
    return by_status or any(text in error.message for text in PASSING_TEXT)


def _is_unsure(error: KindInfraError) -> bool:
    if not isinstance(error, ApiError) or error.status not in UNSURE:
        return False
    return any(text in error.message for text in UNSURE_TEXT)


def _must_be_made_anew(error: ApiError, obj: KubeObject) -> bool:
    fixed = any(text in error.message for text in FIXED_TEXT)
    return error.status == INVALID and fixed and obj["kind"] in FIXED_KINDS


def _way_out(error: ApiError, obj: KubeObject, namespace: str) -> str:
    """Say what to do about a change that cannot be made, of an object that may hold something."""
    if error.status != INVALID or not any(text in error.message for text in IMMUTABLE_TEXT):
        return ""
    name, kind = obj["metadata"]["name"], obj["kind"].lower()
    where = obj["metadata"].get("namespace") or namespace
    delete = f"kubectl --namespace {where} delete {kind} {name}"
    return f"give it another name, or delete the one that is there: {delete}"


def completed(obj: KubeObject, resource: Resource, namespace: str) -> KubeObject:
    """Return the object as it can be applied: in its namespace, without what a server adds."""
    meta = dict(obj["metadata"])
    if not resource.namespaced:
        meta.pop("namespace", None)
    elif not meta.get("namespace"):
        meta["namespace"] = namespace
    # Both come with objects that were exported from a cluster; apply refuses the first
    # and takes the second for "must be that version".
    meta.pop("managedFields", None)
    meta.pop("resourceVersion", None)
    return {**obj, "metadata": meta}


def _about(error: KindInfraError, obj: KubeObject, namespace: str) -> KindInfraError:
    meta = obj["metadata"]
    where = f' in namespace "{meta.get("namespace") or namespace}"'
    what = f'cannot apply {obj["kind"]} "{meta["name"]}"{where}'
    if isinstance(error, ApiError):
        return error.about(what, fix=_way_out(error, obj, namespace))
    if isinstance(error, UnknownKindError):
        return UnknownKindError(f"{what}: {error}", may_come=error.may_come)
    return type(error)(f"{what}: {error}")

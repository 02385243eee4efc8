"""Server-side apply, patient with what passes by itself and with nothing else."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.kube.client import ApiError, ApiRequest, Transport, delete_if, fetch
from pytest_kindinfra.kube.discovery import Discovery, Resource, UnknownKindError
from pytest_kindinfra.kube.objects import place_of
from pytest_kindinfra.kube.refusals import MISSING_GRACE, ApiRefusal, Missing, refusal
from pytest_kindinfra.system.timeline import monotonic, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.system.timeline import Deadline


_MANAGER = {"fieldManager": "kindinfra"}


APPLY = _MANAGER | {"force": "true"}


_TWICE_TEXT = "duplicate entries for key"
"""An environment variable or a port that is named twice: server-side apply cannot take what
`kubectl apply` and `kubectl create` do, so such an object is created, or merged."""


_FIXED_KINDS = frozenset({"Job", "Pod"})


_FIXED_TEXT = ("field is immutable", "pod updates may not change fields")


_SERVER_FIELDS = (
    *("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation"),
    *("managedFields", "resourceVersion", "selfLink", "uid"),
)
"""Metadata that only a server sets. They come with objects that were exported from a cluster;
`kubectl create` ignores them, server-side apply takes uid and version for preconditions."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What else goes on while an object cannot be applied.

    Attributes:
        makers: Names what may still bring something that is missing; nothing if nothing can.
        tell: Called with the server's sentence at each failed try, and with nothing at the end.
        grace: Seconds for what is missing though nothing is known that could bring it.
    """

    makers: Callable[[Missing], Sequence[str]] = lambda _missing: ()
    tell: Callable[[str], object] = lambda _sentence: None
    grace: float = MISSING_GRACE


ALONE = Outlook()


_GONE_EVERY = 0.05


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

    def apply(
        self, obj: KubeObject, *, namespace: str, deadline: Deadline, outlook: Outlook = ALONE
    ) -> KubeObject:
        """Apply `obj` and return it as the server stored it.

        Args:
            obj: The object.
            namespace: Where it goes if it names none.
            deadline: When to give up at the latest.
            outlook: What may still bring what it lacks.

        Raises:
            ApiError: The server refused it, or still did at the deadline.
            UnknownKindError: There is no such kind, or there still was none.
            ClusterError: The server did not answer until the deadline.
        """
        pause, doubts = 0.05, _Doubts(outlook)
        while True:
            deadline.check()
            last = deadline.passed
            try:
                applied = self._apply_once(obj, namespace, deadline)
            except KindInfraError as error:
                meaning = refusal(error, obj, namespace=namespace)
                if last or not doubts.allow(meaning):
                    outlook.tell("")
                    raise _about(error, obj, namespace, meaning, deadline) from None
                outlook.tell(_sentence_of(error))
            else:
                outlook.tell("")
                return applied
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
            if error.status == HTTPStatus.NOT_FOUND:  # the kind itself may be gone by now
                self._discovery.forget(obj["apiVersion"])
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
        await_end(self._fetch, path, uid, deadline)
        return self._patch(path, complete)

    def _patch(self, path: str, obj: KubeObject) -> KubeObject:
        try:
            return self._send("PATCH", path, obj, "application/apply-patch+yaml")
        except ApiError as error:
            if _TWICE_TEXT not in error.message:
                raise
        try:
            return self._send("POST", path.rpartition("/")[0], obj, "application/json")
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
        return self._send("PATCH", path, obj, "application/merge-patch+json")

    def _send(self, method: str, path: str, obj: KubeObject, content_type: str) -> KubeObject:
        query = APPLY if "apply" in content_type else _MANAGER
        request = ApiRequest(method, path, obj, query, content_type)
        answer: KubeObject = json.loads(self._transport.send(request))
        return answer

    def _fetch(self, path: str) -> KubeObject | None:
        return fetch(self._transport, path)


def await_end(
    fetch: Callable[[str], KubeObject | None], path: str, uid: str, deadline: Deadline
) -> None:
    """Return when an object that is being deleted is gone, so that another can take its name.

    Args:
        fetch: Returns what there is at a path.
        path: Where the object is.
        uid: Tells it from another one of its name.
        deadline: When to give up.

    Raises:
        ClusterError: It is still there.
    """

    def gone() -> bool:
        found = fetch(path)
        return found is None or found["metadata"].get("uid") != uid

    if not wait_until(gone, deadline, every=_GONE_EVERY):
        msg = (
            f"{path} was deleted to be created again, but still exists{deadline.exceeded()}\n"
            f"To fix: find the finalizer that is not removed: kubectl get --raw {path}"
        )
        raise ClusterError(msg)


def is_ending(obj: KubeObject) -> bool:
    """Whether an object is there only until its finalizers or its pod's grace period are done."""
    return "deletionTimestamp" in obj["metadata"]


class _Doubts:
    """Since when each kind of refusal has lasted, and how much longer it may."""

    def __init__(self, outlook: Outlook) -> None:
        self._outlook = outlook
        self._since: dict[object, float] = {}

    def allow(self, meaning: ApiRefusal) -> bool:
        """Whether to try once more after such a refusal."""
        grace = meaning.grace
        if meaning.missing:
            grace = max(grace, self._outlook.grace) if grace < math.inf else grace
            if self._outlook.makers(meaning.missing):
                self._since.pop(meaning.missing, None)  # counted from the end of the last of them
                return True
        since = self._since.setdefault(meaning.missing or meaning.grace, monotonic())
        return monotonic() - since < grace


def _sentence_of(error: KindInfraError) -> str:
    """Return the server's sentence, or what is known instead, in one line."""
    text = error.message if isinstance(error, ApiError) else str(error)
    return " ".join(text.split())


def _must_be_made_anew(error: ApiError, obj: KubeObject) -> bool:
    fixed = any(text in error.message for text in _FIXED_TEXT)
    return error.status == HTTPStatus.UNPROCESSABLE_ENTITY and fixed and obj["kind"] in _FIXED_KINDS


def completed(obj: KubeObject, resource: Resource, namespace: str) -> KubeObject:
    """Return the object as it can be applied: in its namespace, without what a server adds."""
    meta = dict(obj["metadata"])
    if not resource.namespaced:
        meta.pop("namespace", None)
    elif not meta.get("namespace"):
        meta["namespace"] = namespace
    for field in _SERVER_FIELDS:
        meta.pop(field, None)
    return {**obj, "metadata": meta}


def _about(
    error: KindInfraError,
    obj: KubeObject,
    namespace: str,
    meaning: ApiRefusal,
    deadline: Deadline,
) -> KindInfraError:
    """Return the error with the object's name, the limit that was reached, and what to do."""
    meta = obj["metadata"]
    where = f' in namespace "{meta.get("namespace") or namespace}"'
    ended = deadline.exceeded() if deadline.passed else ""
    place = f" ({place_of(obj)})" if place_of(obj) else ""
    what = f'cannot apply {obj["kind"]} "{meta["name"]}"{where}{place}{ended}'
    if isinstance(error, ApiError):
        return error.about(what, fix=meaning.fix)
    fix = f"\nTo fix: {meaning.fix}" if meaning.fix else ""
    if isinstance(error, UnknownKindError):
        return UnknownKindError(f"{what}: {error}{fix}", may_come=error.may_come)
    return type(error)(f"{what}: {error}{fix}")

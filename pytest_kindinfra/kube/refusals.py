"""What an API server's refusal means: whether it passes by itself, and what to do about it.

An HTTP status is no verdict: a 404 may be a namespace that is never made, a 409 a uid that no
object has. So the server's reason, details and sentence are judged.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.discovery import UnknownKindError

if TYPE_CHECKING:
    from pytest_kindinfra.model import KubeObject


MISSING_GRACE = 5.0
"""A CRD is established before every server process serves it, and a namespace made a moment ago
may not have reached the admission plugins' caches."""


DOUBT_GRACE = 10.0
"""For a refusal that is not known. An API server that was restarted refuses everybody until it
has read the roles."""


_INTERNAL_GRACE = 30.0


_IMMUTABLE_TEXT = (
    "immutable",
    "may not change once set",
    "updates to statefulset spec for fields other than",
    "pod updates may not change fields",
)
"""How the API server refuses to change what is fixed from an object's creation on."""


_UNTYPED_TEXT = "failed to create typed patch object"
"""A field that the schema does not know; the server calls it an internal error."""


_UID_TEXT = ("uid mismatch", "metadata.uid")


_BUSY_TEXT = (
    *("failed calling webhook", "failed to call webhook", "conversion webhook for"),
    *("etcdserver:", "context deadline exceeded", "connection refused", "i/o timeout", "EOF"),
    *("no endpoints available", "the server is currently unable to handle the request"),
    *("status unknown for quota", "the object has been modified", "object is being deleted"),
    *("please try again", "please apply your changes to the latest version", "timed out"),
)
"""What passes when a server, a webhook's pod or a controller has caught up."""


_RIGHTS_TEXT = ("Unauthorized", " cannot ")


_MISSING = (
    (re.compile(r"error looking up service account [^/\s]+/(?P<name>[^\s:]+)"), "serviceaccounts"),
    (re.compile(r"no PriorityClass with name (?P<name>\S+) was found"), "priorityclasses"),
    (re.compile(r'RuntimeClass "(?P<name>[^"]+)" not found'), "runtimeclasses"),
    (re.compile(r'service "(?P<name>[^"]+)" not found'), "services"),
    (re.compile(r'(?P<kind>[a-z]+)(?:\.[a-z0-9.-]+)? "(?P<name>[^"]+)" not found'), ""),
)


_TERMINATING = re.compile(r"namespace (?P<name>\S+) because it is being terminated")


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that an object needs and the cluster does not have.

    Attributes:
        kind: The resource's plural name (`namespaces`), or `kind` for a kind without a CRD.
        name: Its name; of a kind `VERSION/KIND`.
    """

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRefusal:
    """What a refusal means.

    Attributes:
        grace: Seconds for which it may pass; infinity if it is known to pass by itself.
        missing: What is lacking. While something may still bring it, the grace does not count.
        fix: What to do about it.
    """

    grace: float = 0.0
    missing: Missing | None = None
    fix: str = ""


def refusal(error: KindInfraError, obj: KubeObject, *, namespace: str) -> ApiRefusal:
    """Judge what stopped an object from being applied.

    Args:
        error: What the server said, or that it did not answer.
        obj: The object.
        namespace: Where it goes if it names none.
    """
    if isinstance(error, UnknownKindError):
        return _of_kind(error, obj)
    if isinstance(error, ApiError):
        return _of_answer(error, obj, namespace)
    return ApiRefusal(grace=math.inf if isinstance(error, ClusterError) else 0.0)


def _of_answer(error: ApiError, obj: KubeObject, namespace: str) -> ApiRefusal:
    if _UNTYPED_TEXT in error.message:
        return ApiRefusal(fix="correct or remove the field; `kubectl explain` shows what there is")
    if error.status != HTTPStatus.UNPROCESSABLE_ENTITY and (missing := _missing(error)):
        return _of_missing(missing)
    if any(text in error.message for text in _UID_TEXT):
        return ApiRefusal(fix="remove metadata.uid from the manifest; it is another cluster's")
    if any(text in error.message for text in _BUSY_TEXT) or _is_busy(error):
        return ApiRefusal(grace=math.inf)
    return _by_status(error, obj, namespace)


def _of_kind(error: UnknownKindError, obj: KubeObject) -> ApiRefusal:
    if not error.may_come:
        return ApiRefusal(fix="correct apiVersion and kind; `kubectl api-resources` lists them")
    name = f"{obj['apiVersion']}/{obj['kind']}"
    fix = (
        "add the CustomResourceDefinition of that kind to the manifests of this service, or of one"
        " that it needs"
    )
    return ApiRefusal(grace=MISSING_GRACE, missing=Missing("kind", name), fix=fix)


def _missing(error: ApiError) -> Missing | None:
    """Return what the server says is missing, if it says so."""
    if found := _TERMINATING.search(error.message):
        return Missing("namespaces", found["name"])
    for pattern, kind in _MISSING:
        if found := pattern.search(error.message):
            return Missing(kind or found["kind"], found["name"].strip('"'))
    return None


def _of_missing(missing: Missing) -> ApiRefusal:
    if missing == Missing("serviceaccounts", "default"):
        return ApiRefusal(grace=math.inf)  # made with each namespace, a moment later
    noun = missing.kind.removesuffix("s") if not missing.kind.endswith("classes") else missing.kind
    noun = "Namespace" if missing.kind == "namespaces" else noun
    fix = (
        f'correct the name, or add {noun} "{missing.name}" to the manifests of this service or of '
        "one that it needs"
    )
    return ApiRefusal(grace=MISSING_GRACE, missing=missing, fix=fix)


def _is_busy(error: ApiError) -> bool:
    return (
        error.status == HTTPStatus.TOO_MANY_REQUESTS
        or error.status > HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _by_status(error: ApiError, obj: KubeObject, namespace: str) -> ApiRefusal:
    # At the kind's own path: its CRD was established just now, or went.
    if error.status == HTTPStatus.NOT_FOUND:
        return _of_kind(UnknownKindError(error.message, may_come=True), obj)
    if error.status == HTTPStatus.CONFLICT:
        return ApiRefusal(grace=DOUBT_GRACE)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return ApiRefusal(grace=_INTERNAL_GRACE)
    if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _of_rights(error)
    if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return ApiRefusal(fix="make the object smaller; the API server takes at most 3 MiB")
    return ApiRefusal(fix=_fix_of_invalid(error, obj, namespace))


def _of_rights(error: ApiError) -> ApiRefusal:
    if any(text in error.message for text in _RIGHTS_TEXT):
        fix = "use a kubeconfig whose user may do that, or grant it by a Role and a RoleBinding"
        return ApiRefusal(grace=DOUBT_GRACE, fix=fix)
    if "exceeded quota" in error.message:
        return ApiRefusal(fix="raise the ResourceQuota, or ask for less")
    if "violates PodSecurity" in error.message:
        fix = "change the pod's securityContext, or the namespace's pod-security label"
        return ApiRefusal(fix=fix)
    if "attempting to grant" in error.message:
        return ApiRefusal(fix="use a kubeconfig whose user has the rights that the role grants")
    return ApiRefusal()


def _fix_of_invalid(error: ApiError, obj: KubeObject, namespace: str) -> str:
    if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
        return ""
    if "already allocated" in error.message and "nodePort" in error.message:
        return "choose another nodePort, or none"
    if "already allocated" in error.message:
        return "remove clusterIP and clusterIPs from the manifest; they are another cluster's"
    if not any(text in error.message for text in _IMMUTABLE_TEXT):
        return ""
    name, kind = obj["metadata"]["name"], obj["kind"].lower()
    where = obj["metadata"].get("namespace") or namespace
    delete = f"kubectl --namespace {where} delete {kind} {name}"
    return f"give it another name, or delete the existing one: {delete}"

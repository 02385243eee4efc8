"""The kinds that an API server serves, and where their objects are."""

from __future__ import annotations

import difflib
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.kinds import builtin_fault, may_be_custom

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.model import KubeObject


class UnknownKindError(KindInfraError):
    """The cluster has no such kind.

    Attributes:
        may_come: A CRD may still bring it, since the group is none of Kubernetes' own.
    """

    def __init__(self, message: str, *, may_come: bool) -> None:
        self.may_come = may_come
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind as the API server offers it."""

    base: str
    plural: str
    namespaced: bool

    @property
    def full_name(self) -> str:
        """As kubectl calls it: `deployments.apps`."""
        group = self.base.split("/")[2] if self.base.startswith("/apis/") else ""
        return f"{self.plural}.{group}" if group else self.plural

    def path(self, name: str, namespace: str) -> str:
        """Return the path of the object called `name`; no name means all of them."""
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{self.base}{where}/{self.plural}" + (f"/{name}" if name else "")


class Discovery:
    """The kinds of a cluster, fetched once per group version and again on a miss."""

    def __init__(self, fetch: Callable[[str], Any]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Resource]] = {}

    def resource(self, obj: KubeObject) -> Resource:
        """Return the resource of an object's kind.

        Raises:
            UnknownKindError: The cluster has no such kind, now.
        """
        version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
        with self._lock:
            kinds = self._known.get(version, {})
        if kind not in kinds:
            kinds = self._look_up(version)
        if kind not in kinds:
            raise _unknown(version, kind, sorted(kinds))
        return kinds[kind]

    def forget(self, version: str) -> None:
        """Look the kinds of a group version up again when one is asked for next."""
        with self._lock:
            self._known.pop(version, None)

    def _look_up(self, version: str) -> dict[str, Resource]:
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        try:
            found = _kinds(base, self._fetch(base))
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            found = {}
        with self._lock:
            self._known[version] = found
        return found


def _kinds(base: str, answer: Any) -> dict[str, Resource]:
    return {
        entry["kind"]: Resource(base, entry["name"], entry["namespaced"])
        for entry in answer.get("resources") or ()
        if "/" not in entry["name"]  # pods/log and the like are no kinds of their own
    }


def _unknown(version: str, kind: str, kinds: list[str]) -> UnknownKindError:
    may_come = may_be_custom(version)
    near = difflib.get_close_matches(kind, kinds, n=1)
    hint = f'did you mean "{near[0]}"?' if near else ""
    if not hint and not may_come:
        hint = builtin_fault(version, kind, served_by=None)
    msg = f'no matches for kind "{kind}" in version "{version}"' + (f"; {hint}" if hint else "")
    return UnknownKindError(msg, may_come=may_come)

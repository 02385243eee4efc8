"""What speaks against objects that are waited for, and for how long it has been there.

One thread's memory; when to look, and what is ready, is `ready.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.kube.failure import failed
from pytest_kindinfra.timeline import monotonic
from pytest_kindinfra.workloads import (
    REVISION,
    SCHEDULING_GRACE,
    Cause,
    allowed_restarts,
    causes_in_events,
    causes_of,
    crashes,
    observed,
    old_pods,
    own_pods,
    waits_for_pods,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject

EVENTS_AFTER = 0.75
"""Seconds without a started pod after which the events are read as well."""
EVENTS_EVERY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Leniency:
    """What is let pass.

    Attributes:
        restarts: Restarts of a container that are no failure.
        excused: Whether something that the objects need is not there yet, which explains why
            their containers crash; what crashed meanwhile is not counted later either.
    """

    restarts: int
    excused: Callable[[], bool] = lambda: False


class Troubles:
    """One thread's view of what keeps objects from getting ready."""

    def __init__(self, kube: Reader, leniency: Leniency) -> None:
        self._kube = kube
        self._leniency = leniency
        self._stuck_since: dict[str, float] = {}
        self._since: dict[str, dict[tuple[str, ...], float]] = {}
        self._replica_sets: dict[tuple[str, ...], tuple[KubeObject, ...]] = {}
        self._events: dict[str, tuple[float, list[KubeObject]]] = {}
        self._forgiven: dict[str, int] = {}

    def judge(self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]) -> None:
        """Raise what has kept the object from getting ready for longer than it may.

        Raises:
            ServiceFailedError: With the cause.
        """
        causes = self._causes(obj, declared, pods)
        before, moment = self._since.get(obj["metadata"]["uid"], {}), monotonic()
        # Forgets what is not there any more: a grace runs from the last appearance.
        since = {_key(cause): before.get(_key(cause), moment) for cause in causes}
        self._since[obj["metadata"]["uid"]] = since
        for cause in causes:
            if moment - since[_key(cause)] >= cause.grace:
                raise failed(self._kube.with_evidence(cause))

    def clear_the_way(self, obj: KubeObject) -> None:
        """Delete the pods of a StatefulSet of ours that are broken and of an older revision.

        Their controller waits for them to become ready before it replaces them, for ever:
        https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
        """
        broken = [pod for pod in old_pods(obj, self._pods(obj)) if _is_broken(obj, pod)]
        if broken and self._kube.is_ours(obj):  # else it is its owner's to roll out
            for pod in broken:
                meta = pod["metadata"]
                path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
                self._kube.delete_if(
                    path, lambda now: bool(old_pods(obj, [now])) and _is_broken(obj, now)
                )

    def own_pods(self, obj: KubeObject) -> tuple[KubeObject, ...]:
        """Return the pods of the object's newest revision."""
        return own_pods(obj, self._pods(obj), self._sets_of(obj))

    def _causes(
        self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]
    ) -> list[Cause]:
        found = causes_of(obj, pods, restarts=self._allowed(obj, declared, pods))
        if not waits_for_pods(obj, pods):
            self._stuck_since.pop(obj["metadata"]["uid"], None)
            return found
        since = self._stuck_since.setdefault(obj["metadata"]["uid"], monotonic())
        unsure = all(cause.grace > SCHEDULING_GRACE for cause in found)
        if unsure and monotonic() - since >= EVENTS_AFTER:
            found += causes_in_events(obj, pods, self._recent_events(obj["metadata"]["namespace"]))
        return found

    def _allowed(self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]) -> int:
        """Return how many restarts are allowed: those that something else explains count not."""
        uid = obj["metadata"]["uid"]
        if self._leniency.excused():
            self._forgiven[uid] = max([self._forgiven.get(uid, 0), *map(crashes, pods)])
            return self._forgiven[uid] + self._leniency.restarts + 1  # the next one may be too
        allowed = allowed_restarts(declared, self._leniency.restarts)
        return allowed + self._forgiven.get(uid, 0)

    def _pods(self, obj: KubeObject) -> tuple[KubeObject, ...]:
        namespace = obj["metadata"].get("namespace", "")
        return self._kube.watch(namespace).pods()[1] if namespace else ()

    def _sets_of(self, obj: KubeObject) -> tuple[KubeObject, ...]:
        if obj["kind"] != "Deployment":
            return ()
        if not observed(obj):
            return ()  # the newest one is not made yet
        meta = obj["metadata"]
        revision = (meta.get("annotations") or {}).get(REVISION, "")
        key = (meta["uid"], str(meta.get("generation")), revision)
        if key not in self._replica_sets:
            path = f"/apis/apps/v1/namespaces/{meta['namespace']}/replicasets"
            self._replica_sets[key] = tuple(self._kube.list_(path))
        return self._replica_sets[key]

    def _recent_events(self, namespace: str) -> list[KubeObject]:
        when, found = self._events.get(namespace, (None, []))
        if when is None or monotonic() - when > EVENTS_EVERY:
            found = self._kube.events(namespace)
            self._events[namespace] = (monotonic(), found)
        return found


def _is_broken(obj: KubeObject, pod: KubeObject) -> bool:
    return any(not cause.grace for cause in causes_of(obj, [pod], restarts=0))


def _key(cause: Cause) -> tuple[str, ...]:
    return (cause.pod, cause.container, cause.reason)

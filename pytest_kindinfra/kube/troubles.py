"""What keeps objects from getting ready, for how long, and from when on it is a failure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.errors import NotReadyError
from pytest_kindinfra.kube.diagnosis import Limits, causes_of, limits_of
from pytest_kindinfra.kube.events import causes_in_events
from pytest_kindinfra.kube.pods import (
    REVISION,
    crashes,
    frees_resources,
    observed,
    old_pods,
    own_pods,
    waits_for_pods,
)
from pytest_kindinfra.kube.reasons import is_bare_back_off
from pytest_kindinfra.model import PATIENCE
from pytest_kindinfra.system.timeline import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindinfra.kube.causes import Cause
    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject


class ServiceFailedError(NotReadyError):
    """Objects did not become ready; the text is the full form.

    Attributes:
        short: The same in at most six lines.
        cause: What was found; None if the time was up without one.
    """

    def __init__(self, full: str, *, short: str, cause: Cause | None = None) -> None:
        self.short = short
        self.cause = cause
        super().__init__(full)


def _failure_of(cause: Cause) -> ServiceFailedError:
    """Make the error of a cause that was found."""
    return ServiceFailedError(cause.full(), short=cause.short(), cause=cause)


EVENTS_AFTER = 0.75
"""Seconds without a started pod after which the events are read as well."""


EVENTS_EVERY = 1.0


_GONE_AFTER = 10.0
"""Seconds without a trouble after which it counts as passed: between two tries to make a sandbox or
a volume the last event says for a moment that one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leniency:
    """What is let pass.

    Attributes:
        restarts: Restarts of a container that are no failure.
        excused: Whether something that the objects need is still missing, which explains why
            their containers crash; what crashed meanwhile is not counted later either.
        patience: Seconds for what may pass by itself.
        notice: Called after each look with a line about what is in the way; empty for nothing.
        stage: Called after each look with what pods are at, `Pending`; empty once they run.
    """

    restarts: int
    excused: Callable[[], bool] = lambda: False
    patience: float = PATIENCE
    notice: Callable[[str], object] = lambda _: None
    stage: Callable[[str], object] = lambda _: None


class _Seen(NamedTuple):
    """When a cause was seen for the first and the last time."""

    first: float
    last: float


class Troubles:
    """One thread's view of what keeps objects from getting ready."""

    def __init__(self, kube: Reader, leniency: Leniency) -> None:
        self._kube = kube
        self._leniency = leniency
        self._stuck_since: dict[str, float] = {}
        self._seen: dict[str, dict[tuple[str, ...], _Seen]] = {}
        self._looked: dict[str, float] = {}
        self._known: dict[str, list[Cause]] = {}
        self._pulls: dict[tuple[str, ...], Cause] = {}
        self._relieved: dict[str, float] = {}
        self._replica_sets: dict[tuple[str, ...], tuple[KubeObject, ...]] = {}
        self._events: dict[str, tuple[float, list[KubeObject]]] = {}
        self._forgiven: dict[str, int] = {}

    def judge(self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]) -> None:
        """Raise what has kept the object from getting ready for longer than it may.

        Raises:
            ServiceFailedError: With the cause.
        """
        causes = [self._recalled(one) for one in self._causes(obj, declared, pods)]
        uid, moment = obj["metadata"]["uid"], monotonic()
        self._known[uid] = known = [self._aged(cause, uid, moment) for cause in causes]
        self._looked[uid] = moment
        if any(cause.shortage for cause in known) and self._frees_resources(obj, pods):
            self._relieved[uid] = moment
        for cause in known:
            # A shortage counts from when no ending pod can end it any more.
            late = moment - self._relieved.get(uid, 0.0) if cause.shortage else cause.lasted
            counted = replace(cause, lasted=min(cause.lasted, late))
            if counted.lasted >= cause.grace:
                raise _failure_of(self._kube.with_evidence(self._reported(counted)))

    def _aged(self, cause: Cause, uid: str, moment: float) -> Cause:
        """Return the cause with the seconds since it appeared."""
        seen = self._seen.setdefault(uid, {})
        last, patience = seen.get(_key(cause)), self._leniency.patience
        # What may pass comes and goes while it is tried again; a container that ended does not.
        pause = min(_GONE_AFTER, patience) if cause.grace >= patience else 0.0
        goes_on = last and (last.last >= self._looked.get(uid, 0.0) or moment - last.last <= pause)
        first = last.first if last and goes_on else moment
        seen[_key(cause)] = _Seen(first, moment)
        return replace(cause, lasted=moment - first)

    def _recalled(self, cause: Cause) -> Cause:
        """Return a pull that backs off with what failed: kubelets before 1.32 say it only once."""
        if cause.family != "pull":
            return cause
        if not is_bare_back_off(cause.message):
            self._pulls[_key(cause)] = cause
            return cause
        failed_pull = self._pulls.get(_key(cause))
        return replace(failed_pull, reason=cause.reason) if failed_pull else cause

    def settled(self, obj: KubeObject) -> None:
        """Forget what was in the way of an object that is ready now."""
        self._known.pop(obj["metadata"]["uid"], None)

    def of(self, obj: KubeObject) -> tuple[Cause, ...]:
        """Return what was in the object's way at the last look, with the seconds it was there."""
        return tuple(self._known.get(obj["metadata"]["uid"], ()))

    def tell(self) -> None:
        """Give notice of what has been in the way for longest."""
        known = [cause for causes in self._known.values() for cause in causes]
        worst = max(known, key=lambda cause: cause.lasted, default=None)
        self._leniency.notice(worst.while_waiting() if worst else "")

    def clear_the_way(self, obj: KubeObject) -> None:
        """Delete the pods of an owned StatefulSet that are broken and of an older revision.

        Their controller waits for them to become ready before it replaces them, forever:
        https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
        """
        broken = [pod for pod in old_pods(obj, self._pods(obj)) if _is_broken(obj, pod)]
        if broken and self._kube.is_owned(obj):  # else it is its owner's to roll out
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
        found = causes_of(obj, pods, self._limits(obj, declared, pods))
        if not waits_for_pods(obj, pods):
            self._stuck_since.pop(obj["metadata"]["uid"], None)
            return found
        since = self._stuck_since.setdefault(obj["metadata"]["uid"], monotonic())
        unsure = all(cause.reason == "Unschedulable" for cause in found)
        if unsure and monotonic() - since >= EVENTS_AFTER:
            events = self._recent_events(obj["metadata"]["namespace"])
            found += causes_in_events(obj, pods, events, patience=self._leniency.patience)
        return found

    def _limits(self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]) -> Limits:
        """Return the limits: restarts that something else explains do not count."""
        uid, lenient = obj["metadata"]["uid"], self._leniency
        limits = limits_of(declared, restarts=lenient.restarts, patience=lenient.patience)
        if lenient.excused():
            self._forgiven[uid] = max([self._forgiven.get(uid, 0), *map(crashes, pods)])
            return limits.raised(self._forgiven[uid] + 1)  # the next one may be explained too
        return limits.raised(self._forgiven.get(uid, 0))

    def _reported(self, cause: Cause) -> Cause:
        """Return the cause for the report: with seconds only if they are the service's patience."""
        patience = self._leniency.patience
        lasted = cause.lasted if cause.grace >= patience > 0 else 0.0
        return replace(cause, lasted=lasted, grace=patience)

    def _frees_resources(self, obj: KubeObject, pods: Sequence[KubeObject]) -> bool:
        """Whether another pod of the namespace gives back what it has, so that waiting helps."""
        own = {pod["metadata"]["uid"] for pod in pods}
        others = [pod for pod in self._pods(obj) if pod["metadata"]["uid"] not in own]
        return any(map(frees_resources, others))

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
    causes = causes_of(obj, [pod], Limits(restarts=0))
    return any(cause.pod and cause.grace < math.inf for cause in causes)


def _key(cause: Cause) -> tuple[str, ...]:
    # Another Secret that is missing now is a step forward, and has a grace of its own.
    what = cause.message if cause.family == "config" else ""
    return (cause.pod, cause.container, cause.family or cause.reason, what)

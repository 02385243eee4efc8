"""Wait until objects are ready, or until a cause keeps one of them from it for good."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.errors import ClusterError, NotReadyError, indent, shortened
from pytest_kindinfra.kube.causes import Cause, Limits, causes_of, limits_of
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.events import causes_in_events
from pytest_kindinfra.kube.messages import is_bare_back_off
from pytest_kindinfra.kube.pods import (
    REVISION,
    crashes,
    describe_pod,
    frees_resources,
    has_probes,
    is_backed,
    is_k8s_service,
    observed,
    old_pods,
    own_pods,
    waits_for_pods,
)
from pytest_kindinfra.kube.readiness import (
    Readiness,
    Rules,
    gates,
    readiness,
    rule_for,
    started,
    title,
)
from pytest_kindinfra.model import PATIENCE
from pytest_kindinfra.system.timeline import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject, Level
    from pytest_kindinfra.system.timeline import Deadline


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


def failed(cause: Cause) -> ServiceFailedError:
    """Make the error of a cause that was found."""
    return ServiceFailedError(cause.full(), short=cause.short(), cause=cause)


def too_late(
    states: Sequence[tuple[list[str], list[str]]], *, limit: str = ""
) -> ServiceFailedError:
    """Make the error of a deadline that passed.

    Args:
        states: For each object that is not ready: lines in brief, and further lines.
        limit: The time and what set it, as `Deadline.set_by_option` says it.
    """
    head = f"not ready{limit or ' when the time was up'}:"
    brief = [line for lines, _ in states for line in lines]
    full = [line for lines, more in states for line in (*lines, *more)]
    return ServiceFailedError(
        "\n".join([head, indent("\n".join(full))]),
        short=shortened("\n".join([head, *(f"    {line}" for line in brief)])),
    )


EVENTS_AFTER = 0.75
"""Seconds without a started pod after which the events are read as well."""


EVENTS_EVERY = 1.0


GONE_AFTER = 10.0
"""Seconds without a trouble after which it counts as passed: between two tries to make a sandbox or
a volume the last event says for a moment that one is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leniency:
    """What is let pass.

    Attributes:
        restarts: Restarts of a container that are no failure.
        excused: Whether something that the objects need is not there yet, which explains why
            their containers crash; what crashed meanwhile is not counted later either.
        patience: Seconds for what may pass by itself.
        notice: Called after each look with a line about what is in the way; empty for nothing.
    """

    restarts: int
    excused: Callable[[], bool] = lambda: False
    patience: float = PATIENCE
    notice: Callable[[str], object] = lambda _: None


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
            # A shortage counts from when nobody is there any more who may end it.
            late = moment - self._relieved.get(uid, 0.0) if cause.shortage else cause.lasted
            counted = replace(cause, lasted=min(cause.lasted, late))
            if counted.lasted >= cause.grace:
                raise failed(self._kube.with_evidence(self._told(counted)))

    def _aged(self, cause: Cause, uid: str, moment: float) -> Cause:
        """Return the cause with the seconds since it appeared."""
        seen = self._seen.setdefault(uid, {})
        last, patience = seen.get(_key(cause)), self._leniency.patience
        # What may pass comes and goes while it is tried again; a container that ended does not.
        pause = min(GONE_AFTER, patience) if cause.grace >= patience else 0.0
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

    def _told(self, cause: Cause) -> Cause:
        """Return the cause as it is told: seconds only where they are the service's patience."""
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


FIRST_PAUSE = 0.05


LONGEST_PAUSE = 0.5


PODS_TOLD = 3


SETTLE = 2.0
"""The kubelet looks every second which containers have ended, and tells it later under load."""


UNSURE = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


UNSURE_GRACE = 15.0
"""An API server that was started again refuses everybody until it has read the roles."""


class ReadyWait:
    """One thread's look at some objects, which remembers for how long a trouble was there."""

    def __init__(
        self,
        kube: Reader,
        objects: Sequence[KubeObject],
        *,
        namespace: str,
        leniency: Leniency,
        level: Level = "ready",
        settle: float = SETTLE,
        rules: Rules = (),
    ) -> None:
        self._kube = kube
        self._settle = settle if level == "ready" else 0.0
        self._level = level
        self._rules = rules if level == "ready" else ()
        waited = [obj for obj in objects if self._gates(obj, objects)]
        self._declared = {kube.path_of(obj, namespace=namespace): obj for obj in waited}
        self._pending = dict(self._declared)
        self._namespaces = {
            obj["metadata"].get("namespace") or namespace
            for obj in waited
            if kube.is_namespaced(obj)
        }
        self._looks = 0
        self._refused_since: float | None = None
        self._ready_since: dict[str, float] = {}
        self._troubles = Troubles(kube, leniency)

    def run(self, deadline: Deadline) -> None:
        """Return when all are ready; see `Kube.wait_ready`."""
        pause = FIRST_PAUSE
        while True:
            deadline.check()
            last, seen = deadline.passed, self._versions()
            with self._patience():
                self._look()
            if not self._pending:
                return
            if last:
                raise self._too_late(deadline)
            changed = self._pause(seen, min(pause, deadline.left), deadline)
            pause = FIRST_PAUSE if changed else min(LONGEST_PAUSE, pause * 2)

    def check(self) -> None:
        """Judge all objects once, also those that were ready before.

        Raises:
            ServiceFailedError: One of them does not work, and will not.
        """
        with self._patience():
            for path, declared in self._declared.items():
                if not is_k8s_service(declared) and (obj := self._kube.get(path)):
                    self._troubles.judge(obj, declared, self._troubles.own_pods(obj))

    def _gates(self, obj: KubeObject, objects: Sequence[KubeObject]) -> bool:
        if self._level == "applied":
            return False
        backed = self._level == "ready" and is_backed(obj, objects)
        return gates(obj) or backed or rule_for(obj, self._rules) is not None

    def _look(self) -> None:
        due = self._due()
        self._look_at(due)
        if due.keys().isdisjoint(self._pending):
            self._look_at(self._due())  # k8s services, whose turn it is now
        self._troubles.tell()
        self._looks += 1

    def _look_at(self, due: dict[str, KubeObject]) -> None:
        for path, declared in due.items():
            obj = self._kube.get(path)
            if obj is None:
                continue
            pods = self._troubles.own_pods(obj)
            ready = self._verdict(obj, pods).ready
            if ready:
                self._troubles.settled(obj)
            if self._is_settled(path, obj, ready=ready):
                del self._pending[path]
            elif not ready:
                self._troubles.judge(obj, declared, pods)
                self._troubles.clear_the_way(obj)

    def _due(self) -> dict[str, KubeObject]:
        """Return what to look at: k8s services only when their pods' makers are ready."""
        pending = dict(self._pending)
        first = {path: obj for path, obj in pending.items() if not is_k8s_service(obj)}
        return first or pending

    def _verdict(self, obj: KubeObject, pods: Sequence[KubeObject]) -> Readiness:
        if rule := rule_for(obj, self._rules):
            return _verdict_of(rule.lack(obj))
        if is_k8s_service(obj):
            return _verdict_of(self._kube.lack_of_pods(obj, namespace=""))
        return started(obj, pods) if self._level == "started" else readiness(obj)

    def _is_settled(self, path: str, obj: KubeObject, *, ready: bool) -> bool:
        """Whether the object is ready, and would be known not to be if it crashed at once.

        Without a probe a container is ready from the moment it starts, and one that ends
        in the next is noticed by the kubelet up to a second later. What was ready before
        this wait began is not in that moment.
        """
        if not ready:
            self._ready_since.pop(path, None)
            return False
        since = self._ready_since.setdefault(path, monotonic())
        at_once = not self._looks or has_probes(obj)
        return at_once or monotonic() - since >= self._settle

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Let pass what a server says that is short of breath; a refusal that lasts is raised."""
        try:
            yield
        except ClusterError:
            return
        except ApiError as error:
            passing = (
                error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
                or error.status == HTTPStatus.TOO_MANY_REQUESTS
            )
            if not passing and not self._is_unsure(error):
                raise
        else:
            self._refused_since = None

    def _is_unsure(self, error: ApiError) -> bool:
        if self._refused_since is None:
            self._refused_since = monotonic()
        return error.status in UNSURE and monotonic() - self._refused_since < UNSURE_GRACE

    def _versions(self) -> dict[str, int]:
        return {name: self._kube.watch(name).pods()[0] for name in self._namespaces}

    def _pause(self, seen: dict[str, int], seconds: float, deadline: Deadline) -> bool:
        if len(seen) != 1:  # a thread cannot wait for two watches at once
            deadline.pause(seconds)
            return False
        [(namespace, version)] = seen.items()
        return self._kube.watch(namespace).wait(version, seconds)

    def _too_late(self, deadline: Deadline) -> ServiceFailedError:
        states = [self._state(path, obj) for path, obj in self._due().items()]
        return too_late(states, limit=deadline.set_by_option())

    def _state(self, path: str, declared: KubeObject) -> tuple[list[str], list[str]]:
        """Return what is to say of an object that is not ready, in brief and at length."""
        try:
            obj = self._kube.get(path)
            if obj is None:
                return [f"{title(declared)} is not there"], []
            pods = self._troubles.own_pods(obj)
            bad = [pod for pod in pods if not readiness(pod).ready][:PODS_TOLD]
            brief = [f"{title(obj)}: {self._verdict(obj, pods).why}"]
            for cause in self._troubles.of(obj):
                brief.append(f"  {cause.while_waiting(width=300)}")
                brief += [f"  To fix: {fix}" for fix in [cause.remedy] if fix]
            for pod in bad:
                event = self._kube.last_event(pod)
                brief += [describe_pod(pod), *([f"  event: {event}"] if event else [])]
            return brief, [line for pod in bad for line in self._kube.traces(pod)]
        except (ApiError, ClusterError) as error:
            return [f"{title(declared)}: {error}"], []


def _verdict_of(lack: str) -> Readiness:
    return Readiness(ready=not lack, why=lack)

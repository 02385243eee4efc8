"""Waits until objects are ready, or until it is known that they will not be.

The pods are followed by a watch that all waiting threads share; the objects themselves
are asked for when something of the pods changed, and every half second in any case.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube.client import SERVER_ERROR, ApiError
from pytest_kindinfra.kube.failure import ServiceFailedError, failed, too_late
from pytest_kindinfra.timeline import monotonic
from pytest_kindinfra.workloads import (
    REVISION,
    Cause,
    Readiness,
    allowed_restarts,
    causes_in_events,
    causes_of,
    describe_pod,
    gates,
    has_probes,
    observed,
    old_pods,
    own_pods,
    readiness,
    started,
    title,
    waits_for_pods,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject, Level
    from pytest_kindinfra.timeline import Deadline

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5
EVENTS_AFTER = 1.5
"""Seconds without a started pod after which the events are read as well."""
EVENTS_EVERY = 1.0
PODS_TOLD = 3
SETTLE = 2.0
"""The kubelet looks every second which containers have ended, and tells it later under load."""
TOO_MANY_REQUESTS = 429


class ReadyWait:
    """One thread's look at some objects, which remembers for how long a trouble was there."""

    def __init__(
        self,
        kube: Reader,
        objects: Sequence[KubeObject],
        *,
        namespace: str,
        restarts: int,
        level: Level = "ready",
        settle: float = SETTLE,
    ) -> None:
        self._kube = kube
        self._settle = settle if level == "ready" else 0.0
        self._restarts = restarts
        self._level = level
        waited = [obj for obj in objects if gates(obj)] if level != "applied" else []
        self._declared = {kube.path_of(obj, namespace=namespace): obj for obj in waited}
        self._pending = dict(self._declared)
        self._namespaces = {
            obj["metadata"].get("namespace") or namespace
            for obj in waited
            if kube.is_namespaced(obj)
        }
        self._looks = 0
        self._ready_since: dict[str, float] = {}
        self._stuck_since: dict[str, float] = {}
        self._since: dict[str, dict[tuple[str, ...], float]] = {}
        self._replica_sets: dict[tuple[str, ...], tuple[KubeObject, ...]] = {}
        self._events: dict[str, tuple[float, list[KubeObject]]] = {}

    def run(self, deadline: Deadline) -> None:
        """Return when all are ready; see `Kube.wait_ready`."""
        pause = FIRST_PAUSE
        while True:
            deadline.check()
            last, seen = deadline.passed, self._versions()
            with _patience():
                self._look()
            if not self._pending:
                return
            if last:
                raise self._too_late()
            changed = self._pause(seen, min(pause, deadline.left), deadline)
            pause = FIRST_PAUSE if changed else min(LONGEST_PAUSE, pause * 2)

    def check(self) -> None:
        """Judge all objects once, also those that were ready before.

        Raises:
            ServiceFailedError: One of them does not work, and will not.
        """
        with _patience():
            for path, declared in self._declared.items():
                if obj := self._kube.get(path):
                    self._judge(obj, declared, self._own_pods(obj))

    def _look(self) -> None:
        for path, declared in list(self._pending.items()):
            obj = self._kube.get(path)
            if obj is None:
                continue
            pods = self._own_pods(obj)
            ready = self._verdict(obj, pods).ready
            if self._is_settled(path, obj, ready=ready):
                del self._pending[path]
            elif not ready:
                self._judge(obj, declared, pods)
                self._clear_the_way(obj)
        self._looks += 1

    def _verdict(self, obj: KubeObject, pods: Sequence[KubeObject]) -> Readiness:
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

    def _judge(self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]) -> None:
        causes = self._causes(obj, declared, pods)
        before, moment = self._since.get(obj["metadata"]["uid"], {}), monotonic()
        # Forgets what is not there any more: a grace runs from the last appearance.
        since = {_key(cause): before.get(_key(cause), moment) for cause in causes}
        self._since[obj["metadata"]["uid"]] = since
        for cause in causes:
            if moment - since[_key(cause)] >= cause.grace:
                raise failed(self._kube.with_evidence(cause))

    def _clear_the_way(self, obj: KubeObject) -> None:
        """Delete a StatefulSet's pods that are broken and of an older revision.

        Their controller waits for them to become ready before it replaces them, for ever:
        https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
        """
        for pod in old_pods(obj, self._pods(obj)):
            if any(not cause.grace for cause in causes_of(obj, [pod], restarts=0)):
                meta = pod["metadata"]
                self._kube.delete(f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}")

    def _causes(
        self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]
    ) -> list[Cause]:
        found = causes_of(obj, pods, restarts=allowed_restarts(declared, self._restarts))
        if not waits_for_pods(obj, pods):
            self._stuck_since.pop(obj["metadata"]["uid"], None)
            return found
        since = self._stuck_since.setdefault(obj["metadata"]["uid"], monotonic())
        if not found and monotonic() - since >= EVENTS_AFTER:
            return causes_in_events(obj, pods, self._recent_events(obj["metadata"]["namespace"]))
        return found

    def _own_pods(self, obj: KubeObject) -> tuple[KubeObject, ...]:
        return own_pods(obj, self._pods(obj), self._sets_of(obj))

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

    def _versions(self) -> dict[str, int]:
        return {name: self._kube.watch(name).pods()[0] for name in self._namespaces}

    def _pause(self, seen: dict[str, int], seconds: float, deadline: Deadline) -> bool:
        if len(seen) != 1:  # a thread cannot wait for two watches at once
            deadline.pause(seconds)
            return False
        [(namespace, version)] = seen.items()
        return self._kube.watch(namespace).wait(version, seconds)

    def _too_late(self) -> ServiceFailedError:
        return too_late([self._state(path, obj) for path, obj in self._pending.items()])

    def _state(self, path: str, declared: KubeObject) -> tuple[list[str], list[str]]:
        """Return what is to say of an object that is not ready, in brief and at length."""
        try:
            obj = self._kube.get(path)
            if obj is None:
                return [f"{title(declared)} is not there"], []
            pods = self._own_pods(obj)
            bad = [pod for pod in pods if not readiness(pod).ready][:PODS_TOLD]
            brief = [f"{title(obj)}: {self._verdict(obj, pods).why}", *map(describe_pod, bad)]
            return brief, [line for pod in bad for line in self._kube.traces(pod)]
        except (ApiError, ClusterError) as error:
            return [f"{title(declared)}: {error}"], []


def _key(cause: Cause) -> tuple[str, ...]:
    return (cause.pod, cause.container, cause.reason)


@contextmanager
def _patience() -> Iterator[None]:
    """Let pass what a server says that is short of breath; a refusal is no such thing."""
    try:
        yield
    except ClusterError:
        return
    except ApiError as error:
        if error.status < SERVER_ERROR and error.status != TOO_MANY_REQUESTS:
            raise

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
EVENTS_AFTER = 2.0
"""Seconds without a started pod after which the events are read as well."""
EVENTS_EVERY = 1.0
PODS_TOLD = 3
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
    ) -> None:
        self._kube = kube
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
            if self._verdict(obj, pods).ready:
                del self._pending[path]
            else:
                self._judge(obj, declared, pods)

    def _verdict(self, obj: KubeObject, pods: Sequence[KubeObject]) -> Readiness:
        return started(obj, pods) if self._level == "started" else readiness(obj)

    def _judge(self, obj: KubeObject, declared: KubeObject, pods: Sequence[KubeObject]) -> None:
        restarts = allowed_restarts(declared, self._restarts)
        found = causes_of(obj, pods, restarts=restarts)
        stuck = waits_for_pods(obj, pods)
        times = self._times(obj, [*map(_key, found), *([STUCK] if stuck else [])])
        if stuck and not found and monotonic() - times[STUCK] > EVENTS_AFTER:
            found = causes_in_events(obj, pods, self._recent_events(obj["metadata"]["namespace"]))
            times = self._times(obj, [STUCK, *map(_key, found)])
        for cause in found:
            if monotonic() - times[_key(cause)] >= cause.grace:
                raise failed(self._kube.with_evidence(cause))

    def _times(
        self, obj: KubeObject, keys: Sequence[tuple[str, ...]]
    ) -> dict[tuple[str, ...], float]:
        """Return since when each trouble has been there without a break."""
        path, moment = str(obj["metadata"]["uid"]), monotonic()
        before = self._since.get(path, {})
        self._since[path] = {key: before.get(key, moment) for key in keys}
        return self._since[path]

    def _own_pods(self, obj: KubeObject) -> tuple[KubeObject, ...]:
        namespace = obj["metadata"].get("namespace", "")
        if not namespace:
            return ()
        _, pods = self._kube.watch(namespace).pods()
        return own_pods(obj, pods, self._sets_of(obj))

    def _sets_of(self, obj: KubeObject) -> tuple[KubeObject, ...]:
        if obj["kind"] != "Deployment":
            return ()
        meta, status = obj["metadata"], obj.get("status") or {}
        if status.get("observedGeneration", 0) < meta.get("generation", 0):
            return ()  # the newest one is not made yet; an older one's pods count for nothing
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


STUCK = ("stuck",)


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

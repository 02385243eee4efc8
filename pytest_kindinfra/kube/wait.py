"""Wait until objects are ready, or until something keeps one of them from it for good."""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError, indent, shortened
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.pods import (
    describe_pod,
    has_probes,
    is_backed,
    is_k8s_service,
    stage_of,
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
from pytest_kindinfra.kube.troubles import Leniency, ServiceFailedError, Troubles
from pytest_kindinfra.system.timeline import monotonic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.kube.reader import Reader
    from pytest_kindinfra.model import KubeObject, Level
    from pytest_kindinfra.system.timeline import Deadline


def _too_late(
    states: Sequence[tuple[list[str], list[str]]], *, limit: str = ""
) -> ServiceFailedError:
    """Make the error of a deadline that passed.

    Args:
        states: For each object that is not ready: a few lines, and further lines.
        limit: The time and what set it, as `Deadline.set_by_option` says it.
    """
    head = f"not ready{limit or ' within the time limit'}:"
    brief = [line for lines, _ in states for line in lines]
    full = [line for lines, more in states for line in (*lines, *more)]
    return ServiceFailedError(
        "\n".join([head, indent("\n".join(full))]),
        short=shortened("\n".join([head, *(f"    {line}" for line in brief)])),
    )


FIRST_PAUSE = 0.05


_LONGEST_PAUSE = 0.5


_PODS_NAMED = 3


SETTLE = 2.0
"""The kubelet looks every second which containers have ended, and tells it later under load."""


_UNSURE = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


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
        self._unready: list[KubeObject] = []
        self._leniency = leniency
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
            pause = FIRST_PAUSE if changed else min(_LONGEST_PAUSE, pause * 2)

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
        self._unready.clear()
        self._look_at(due)
        if due.keys().isdisjoint(self._pending):
            self._look_at(self._due())  # k8s services, whose turn it is now
        self._troubles.tell()
        self._leniency.stage(stage_of(self._unready))
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
                self._unready += pods
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
        """Tolerate 429 and 5xx; raise a refusal that persists."""
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
        return error.status in _UNSURE and monotonic() - self._refused_since < UNSURE_GRACE

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
        return _too_late(states, limit=deadline.set_by_option())

    def _state(self, path: str, declared: KubeObject) -> tuple[list[str], list[str]]:
        """Return what to say of an object that is not ready: a few lines, and further lines."""
        try:
            obj = self._kube.get(path)
            if obj is None:
                return [f"{title(declared)} does not exist"], []
            pods = self._troubles.own_pods(obj)
            bad = [pod for pod in pods if not readiness(pod).ready][:_PODS_NAMED]
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

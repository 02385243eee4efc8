"""What keeps an object from getting ready, found in its state and in that of its pods. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.causes import Cause, against, cause_of
from pytest_kindinfra.kube.pods import (
    after_restarts,
    containers_of,
    is_disrupted,
    is_done,
    observed,
    phase_of,
    sidecars_of,
)
from pytest_kindinfra.kube.readiness import condition
from pytest_kindinfra.kube.reasons import Sight, reasons_seen
from pytest_kindinfra.model import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import KubeObject


_ENDED_GRACE = 1.0
"""The kubelet says CrashLoopBackOff ten seconds late; until then a container that will not
be started at once just stays where it is."""


_JOBS_OWN_KEYS = ("backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy", "successPolicy")


_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much trouble is no failure.

    Attributes:
        restarts: Restarts of a container, and failed pods of a Job that says nothing itself.
        patience: Seconds for what may pass by itself.
        failures: Failed pods that a Job allows in its `backoffLimit`; None if it is not written.
        by_itself: The Job says in more detail when it has failed, so nothing but its own status
            tells.
    """

    restarts: int
    patience: float = PATIENCE
    failures: int | None = None
    by_itself: bool = False

    @property
    def of_job(self) -> int:
        """Failed pods of a Job that are no failure."""
        return self.restarts if self.failures is None else self.failures

    def raised(self, by: int) -> Limits:
        """Return limits for what has failed so often already for another reason."""
        failures = None if self.failures is None else self.failures + by
        return replace(self, restarts=self.restarts + by, failures=failures)


def limits_of(declared: KubeObject, *, restarts: int, patience: float = PATIENCE) -> Limits:
    """Return the limits for an object: a Job may say itself how often it may fail.

    Args:
        declared: As it was written: one from the server has defaults filled in.
        restarts: Those of its service.
        patience: That of its service.
    """
    if declared["kind"] != "Job":
        return Limits(restarts=restarts, patience=patience)
    spec = declared.get("spec") or {}
    written = spec.get("backoffLimit")
    return Limits(
        restarts=restarts,
        patience=patience,
        failures=None if written is None else int(written),
        by_itself=any(spec.get(key) is not None for key in _JOBS_OWN_KEYS),
    )


def causes_of(obj: KubeObject, pods: Sequence[KubeObject], limits: Limits) -> list[Cause]:
    """Return what speaks against `obj`, the surest first.

    Args:
        obj: A live object.
        pods: Its own pods (`own_pods`).
        limits: How much trouble is no failure.
    """
    found = [*_of_object(obj, pods, limits)] if observed(obj) else []
    for pod in pods:
        found += _of_pod(obj, pod, limits)
    return sorted(found, key=lambda cause: cause.grace)


def _of_object(obj: KubeObject, pods: Sequence[KubeObject], limits: Limits) -> Iterator[Cause]:
    if failure := condition(obj, "ReplicaFailure"):
        reason, message = failure.get("reason", "ReplicaFailure"), failure.get("message", "")
        yield cause_of(obj, reason, Sight(message, limits.patience), like="FailedCreate")
    if obj["kind"] == "Job":
        yield from _of_job(obj, pods, limits)
    if obj["kind"] == "PersistentVolumeClaim" and (obj.get("status") or {}).get("phase") == "Lost":
        yield cause_of(obj, "Lost", Sight("the claim lost its volume"))
    if obj["kind"] == "Pod" and phase_of(obj) == "Failed":
        yield _of_failed_pod(obj, obj)


def _of_job(obj: KubeObject, pods: Sequence[KubeObject], limits: Limits) -> Iterator[Cause]:
    broken = [pod for pod in pods if phase_of(pod) == "Failed"]
    if not (failure := _failure_of_job(obj, broken, limits)):
        return
    reason, message = failure
    if not broken:
        yield against(obj, reason, message)
        return
    last = max(broken, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    of_pod = _of_failed_pod(obj, last)
    yield against(
        obj, reason, f"{message}; {of_pod.message}", pod=of_pod.pod, container=of_pod.container,
        logs=of_pod.logs,
    )  # fmt: skip


def _failure_of_job(
    obj: KubeObject, broken: Sequence[KubeObject], limits: Limits
) -> tuple[str, str] | None:
    """Return the reason and the message of a Job that has failed, or certainly will."""
    if failure := condition(obj, "Failed") or condition(obj, "FailureTarget"):
        return failure.get("reason", "Failed"), failure.get("message", "")
    status = obj.get("status") or {}
    if (indexes := status.get("failedIndexes")) and not obj["spec"].get("successPolicy"):
        return "FailedIndexes", f"indexes that have failed for good: {indexes}"
    # Evictions and the like are counted by Kubernetes too, but say nothing about the program.
    failed = status.get("failed", 0) - sum(map(is_disrupted, broken))
    if limits.by_itself or failed <= limits.of_job:
        return None
    return "Failed", f"{failed} pods of it have failed"


def _of_failed_pod(obj: KubeObject, pod: KubeObject) -> Cause:
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for one in containers_of(pod):
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode") and not _is_sidecar(one, pod):
            reason, message = _ending(ended, one)
            return against(obj, reason, message, pod=name, container=one["name"], logs="current")
    return against(obj, status.get("reason", "Failed"), status.get("message", ""), pod=name)


def _of_pod(obj: KubeObject, pod: KubeObject, limits: Limits) -> Iterator[Cause]:
    if phase_of(pod) in {"Failed", "Succeeded"}:
        return  # a controller makes a new one, or its object is judged as a whole
    for one in containers_of(pod):
        if not (_is_sidecar(one, pod) and is_done(pod)):  # the kubelet ends it then
            yield from _of_container(obj, pod, one, limits)
    for entry in (pod.get("status") or {}).get("conditions") or ():
        kind = (entry["type"], entry["status"], entry.get("reason"))
        if kind == ("PodScheduled", "False", "Unschedulable"):
            sight = Sight(entry.get("message", ""), limits.patience)
            yield cause_of(obj, "Unschedulable", sight, pod=pod["metadata"]["name"])


def _of_container(
    obj: KubeObject, pod: KubeObject, container: dict[str, Any], limits: Limits
) -> Iterator[Cause]:
    state, before = container.get("state") or {}, container.get("lastState") or {}
    ended, last = state.get("terminated") or {}, before.get("terminated") or {}
    waiting, not_started = state.get("waiting") or {}, reasons_seen("not started")
    if (reason := waiting.get("reason", "")) in reasons_seen("waiting"):
        yield _of_waiting(obj, pod, container, reason, waiting.get("message", ""), limits.patience)
    elif (failed := ended or (last if waiting else {})).get("reason") in not_started:
        reason, message = failed["reason"], failed.get("message", "")
        yield _of_waiting(obj, pod, container, reason, message, limits.patience)
    elif obj["kind"] != "Job" or _is_sidecar(container, pod):
        yield from _of_crashes(obj, pod, container, limits.restarts)
    elif not limits.by_itself:
        yield from _of_crashes(obj, pod, container, limits.of_job)


def _of_waiting(
    obj: KubeObject, pod: KubeObject, container: dict[str, Any], reason: str, message: str,
    patience: float,
) -> Cause:  # fmt: skip
    """Make the cause of a container that could not be made or started."""
    sight = Sight(
        message=message,
        patience=patience,
        image=_image_of(container, pod),
        has_pull_secrets=bool((pod.get("spec") or {}).get("imagePullSecrets")),
        has_mounts=_has_mounts(container, pod),
    )
    return cause_of(obj, reason, sight, pod=pod["metadata"]["name"], container=container["name"])


def _of_crashes(
    obj: KubeObject, pod: KubeObject, container: dict[str, Any], restarts: int
) -> Iterator[Cause]:
    where = {"pod": pod["metadata"]["name"], "container": container["name"]}
    state, before = container.get("state") or {}, container.get("lastState") or {}
    ended, last = state.get("terminated") or {}, before.get("terminated") or {}
    reason = (state.get("waiting") or {}).get("reason", "")
    if reason == "PostStartHookError" and container.get("restartCount", 0) >= restarts:
        yield against(obj, reason, state["waiting"].get("message", ""), logs="previous", **where)
    elif reason == "CrashLoopBackOff" and _is_enough(last, container, pod, restarts):
        word, message = _ending(last, container)
        word = word if word in {"OOMKilled", "Completed"} else reason
        yield against(obj, word, message, logs="previous", **where)
    elif (
        "running" in state
        and not container.get("ready")
        and _was_enough(last, container, pod, restarts)
    ):
        yield against(obj, *_ending(last, container), logs="previous", **where)
    elif ended and _is_enough(ended, container, pod, restarts):
        grace = _ENDED_GRACE if restarts else 0.0
        yield against(obj, *_ending(ended, container), grace, logs="current", **where)


def _is_sidecar(container: dict[str, Any], pod: KubeObject) -> bool:
    """Whether a container is an init container that is to run as long as the pod does."""
    init = (pod.get("status") or {}).get("initContainerStatuses") or ()
    is_init = any(entry is container for entry in init)
    return is_init and container["name"] in sidecars_of(pod.get("spec") or {})


def _spec_of(container: dict[str, Any], pod: KubeObject) -> dict[str, Any]:
    spec = pod.get("spec") or {}
    written = (*(spec.get("initContainers") or ()), *(spec.get("containers") or ()))
    return next((dict(entry) for entry in written if entry["name"] == container["name"]), {})


def _image_of(container: dict[str, Any], pod: KubeObject) -> str:
    return str(_spec_of(container, pod).get("image") or container.get("image") or "IMAGE")


def _has_mounts(container: dict[str, Any], pod: KubeObject) -> bool:
    mounts = _spec_of(container, pod).get("volumeMounts") or ()
    return any(mount.get("mountPath") != _SERVICE_ACCOUNT for mount in mounts)


def _is_enough(
    ended: dict[str, Any], container: dict[str, Any], pod: KubeObject, restarts: int
) -> bool:
    """Whether a container that is down speaks against its pod."""
    if ended.get("reason") == "OOMKilled":
        return True
    due = container.get("restartCount", 0) >= restarts
    no_crash = reasons_seen("lost") | reasons_seen("not started")
    return due and ended.get("reason") not in no_crash and _failed(ended, container, pod)


def _was_enough(
    last: dict[str, Any], container: dict[str, Any], pod: KubeObject, restarts: int
) -> bool:
    """Whether a container that runs again went down too often: a probe's kill has no back-off."""
    if last.get("reason") == "OOMKilled":
        return True
    often = bool(last) and container.get("restartCount", 0) > restarts
    return often and _is_enough(last, container, pod, restarts)


def _failed(ended: dict[str, Any], container: dict[str, Any], pod: KubeObject) -> bool:
    if ended.get("exitCode") or _is_sidecar(container, pod):
        return True
    init = (pod.get("status") or {}).get("initContainerStatuses") or ()
    always = pod.get("spec", {}).get("restartPolicy", "Always") == "Always"
    return always and not any(entry is container for entry in init)


def _ending(ended: dict[str, Any], container: dict[str, Any]) -> tuple[str, str]:
    message = f"exit code {ended.get('exitCode')}{after_restarts(container, ', ')}"
    detail = ended.get("message") or ""
    return ended.get("reason", "Error"), f"{message}: {detail}" if detail else message

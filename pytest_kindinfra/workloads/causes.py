"""What keeps an object from getting ready for good, told apart from what passes.

A verdict is made only on an object's own pods. What is known to pass at times carries a
grace: the caller takes it for a cause once it has been there that long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pytest_kindinfra.workloads.cause import Cause
from pytest_kindinfra.workloads.pods import after_restarts, containers_of, observed, phase_of
from pytest_kindinfra.workloads.readiness import condition, title

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import KubeObject

WAITING_FOR_GOOD = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PostStartHookError",
    }
)
DEFAULT_BACKOFF_LIMIT = 6
OUT_OF_MEMORY = "OOMKilled"
LOST = frozenset({"Unknown", "ContainerStatusUnknown"})
"""How a container ended that was not there any more when the kind node came back."""
ENDED_GRACE = 1.0
"""The kubelet says CrashLoopBackOff ten seconds late; until then a container that will not
be started at once is only seen to stay where it is."""
SCHEDULING_GRACE = 10.0
VOLUME_GRACE = 30.0
"""A provisioner may have to start a pod of its own before a claim is bound."""
REPLICA_GRACE = 1.0
PASSING_GRACE = 15.0
PASSING_TEXT = ("error looking up service account", "failed calling webhook")
BOOTING = "node.kubernetes.io/not-ready"


def allowed_restarts(obj: KubeObject, restarts: int) -> int:
    """Return how often the object's containers may fail: a Job may say so itself.

    An object that comes from the server has the default filled in, which nobody said.
    """
    limit = (obj.get("spec") or {}).get("backoffLimit") if obj["kind"] == "Job" else None
    return restarts if limit in {None, DEFAULT_BACKOFF_LIMIT} else int(limit)


def causes_of(obj: KubeObject, pods: Sequence[KubeObject], *, restarts: int) -> list[Cause]:
    """Return what speaks against `obj`, the surest first.

    Args:
        obj: A live object.
        pods: Its own pods (`own_pods`).
        restarts: Restarts of a container that are no failure.
    """
    found = [*_of_object(obj, pods, restarts)] if observed(obj) else []
    for pod in pods:
        found += _of_pod(obj, pod, restarts)
    return sorted(found, key=lambda cause: cause.grace)


def _of_object(obj: KubeObject, pods: Sequence[KubeObject], restarts: int) -> Iterator[Cause]:
    if failure := condition(obj, "ReplicaFailure"):
        message = failure.get("message", "")
        yield against(obj, failure.get("reason", "ReplicaFailure"), message, passing_grace(message))
    if obj["kind"] == "Job":
        yield from _of_job(obj, pods, restarts)
    if obj["kind"] == "PersistentVolumeClaim" and (obj.get("status") or {}).get("phase") == "Lost":
        yield against(obj, "Lost", "the claim lost its volume")
    if obj["kind"] == "Pod" and phase_of(obj) == "Failed":
        yield _of_failed_pod(obj, obj)


def passing_grace(message: str) -> float:
    """Return for how long that may be said of pods that cannot be made, and still pass."""
    passing = any(text in message for text in PASSING_TEXT)
    return PASSING_GRACE if passing else REPLICA_GRACE


def _of_job(obj: KubeObject, pods: Sequence[KubeObject], restarts: int) -> Iterator[Cause]:
    failure = condition(obj, "Failed") or condition(obj, "FailureTarget")
    failed = (obj.get("status") or {}).get("failed", 0)
    if not failure and failed <= restarts:
        return
    reason = failure.get("reason", "Failed")
    message = failure.get("message", f"{failed} pods of it have failed")
    broken = [pod for pod in pods if phase_of(pod) == "Failed"]
    if not broken:
        yield against(obj, reason, message)
        return
    last = max(broken, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    of_pod = _of_failed_pod(obj, last)
    yield against(
        obj, reason, f"{message}; {of_pod.message}", pod=of_pod.pod, container=of_pod.container,
        logs=of_pod.logs,
    )  # fmt: skip


def _of_failed_pod(obj: KubeObject, pod: KubeObject) -> Cause:
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for one in containers_of(pod):
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            reason, message = _ending(ended, one)
            return against(obj, reason, message, pod=name, container=one["name"], logs="current")
    return against(obj, status.get("reason", "Failed"), status.get("message", ""), pod=name)


def _of_pod(obj: KubeObject, pod: KubeObject, restarts: int) -> Iterator[Cause]:
    if phase_of(pod) in {"Failed", "Succeeded"}:
        return  # a controller makes a new one, or its object is judged as a whole
    for one in containers_of(pod):
        yield from _of_container(obj, pod, one, restarts)
    for entry in (pod.get("status") or {}).get("conditions") or ():
        if entry["type"] == "PodScheduled" and entry.get("reason") == "Unschedulable":
            message = entry.get("message", "")
            if entry["status"] != "True" and BOOTING not in message:
                grace = VOLUME_GRACE if "PersistentVolumeClaim" in message else SCHEDULING_GRACE
                yield against(obj, "Unschedulable", message, grace, pod=pod["metadata"]["name"])


def _of_container(
    obj: KubeObject, pod: KubeObject, one: dict[str, Any], restarts: int
) -> Iterator[Cause]:
    where = {"pod": pod["metadata"]["name"], "container": one["name"]}
    state, before = one.get("state") or {}, one.get("lastState") or {}
    ended, last = state.get("terminated") or {}, before.get("terminated") or {}
    reason = (state.get("waiting") or {}).get("reason", "")
    if reason in WAITING_FOR_GOOD:
        yield against(obj, reason, state["waiting"].get("message", ""), **where)
    elif reason == "CrashLoopBackOff" and _is_enough(last, one, pod, restarts):
        word, message = _ending(last, one)
        word = word if word == OUT_OF_MEMORY else reason
        yield against(obj, word, message, logs="previous", **where)
    elif "running" in state and not one.get("ready") and _was_enough(last, one, pod, restarts):
        yield against(obj, *_ending(last, one), logs="previous", **where)
    elif ended and _is_enough(ended, one, pod, restarts):
        grace = ENDED_GRACE if restarts else 0.0
        yield against(obj, *_ending(ended, one), grace, logs="current", **where)


def _is_enough(ended: dict[str, Any], one: dict[str, Any], pod: KubeObject, restarts: int) -> bool:
    """Whether a container that is down speaks against its pod."""
    if ended.get("reason") == OUT_OF_MEMORY:
        return True
    due = one.get("restartCount", 0) >= restarts and ended.get("reason") not in LOST
    return due and _failed(ended, one, pod)


def _was_enough(last: dict[str, Any], one: dict[str, Any], pod: KubeObject, restarts: int) -> bool:
    """Whether a container that runs again went down too often: a probe's kill has no back-off."""
    if last.get("reason") == OUT_OF_MEMORY:
        return True
    often = bool(last) and one.get("restartCount", 0) > restarts
    return often and _is_enough(last, one, pod, restarts)


def _failed(ended: dict[str, Any], one: dict[str, Any], pod: KubeObject) -> bool:
    if ended.get("exitCode"):
        return True
    init = (pod.get("status") or {}).get("initContainerStatuses") or ()
    always = pod.get("spec", {}).get("restartPolicy", "Always") == "Always"
    return always and not any(entry is one for entry in init)


def _ending(ended: dict[str, Any], one: dict[str, Any]) -> tuple[str, str]:
    message = f"exit code {ended.get('exitCode')}{after_restarts(one, ', ')}"
    detail = ended.get("message") or ""
    return ended.get("reason", "Error"), f"{message}: {detail}" if detail else message


def against(
    obj: KubeObject,
    reason: str,
    message: str,
    grace: float = 0.0,
    *,
    pod: str = "",
    container: str = "",
    logs: Literal["", "current", "previous"] = "",
) -> Cause:
    """Make a cause that speaks against `obj`."""
    return Cause(
        object=title(obj), namespace=obj["metadata"].get("namespace", ""), pod=pod,
        container=container, reason=reason, message=message, grace=grace, logs=logs,
    )  # fmt: skip

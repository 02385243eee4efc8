"""What keeps an object from getting ready for good, told apart from what passes.

A verdict is made only on an object's own pods. What is known to pass at times carries a
grace: the caller takes it for a cause once it has been there that long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_kindinfra.errors import indent
from pytest_kindinfra.workloads.pods import containers_of, phase_of
from pytest_kindinfra.workloads.readiness import condition, title

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import KubeObject

IMAGE_FIX = "declare the image, have it in the engine of this machine, or correct its name"
CONFIG_FIX = "add what is missing to the service's manifests, or to those of one that it needs"
CRASH_FIX = "see the log; `restarts = N` of the service allows more restarts"
FIXES = {
    "ErrImagePull": IMAGE_FIX,
    "ImagePullBackOff": IMAGE_FIX,
    "ErrImageNeverPull": IMAGE_FIX,
    "InvalidImageName": "correct the image's name in the manifest",
    "ImageInspectError": IMAGE_FIX,
    "RegistryUnavailable": IMAGE_FIX,
    "CreateContainerConfigError": CONFIG_FIX,
    "CreateContainerError": "correct the container's command or mounts",
    "RunContainerError": "correct the container's command",
    "PostStartHookError": "see the hook's message",
    "CrashLoopBackOff": CRASH_FIX,
    "OOMKilled": "raise the container's memory limit",
    "Unschedulable": "ask for less, or remove what no kind node offers",
    "FailedMount": CONFIG_FIX,
}
WAITING_FOR_GOOD = frozenset(FIXES) - {
    "CrashLoopBackOff",
    "OOMKilled",
    "Unschedulable",
    "FailedMount",
}

SCHEDULING_GRACE = 10.0
VOLUME_GRACE = 30.0
"""A provisioner may have to start a pod of its own before a claim is bound."""
REPLICA_GRACE = 1.0
PASSING_GRACE = 15.0
PASSING_TEXT = ("error looking up service account", "failed calling webhook")
EVENT_GRACES = {
    "FailedMount": 10.0,
    "FailedAttachVolume": 10.0,
    "FailedCreatePodSandBox": 20.0,
    "FailedCreate": REPLICA_GRACE,
}
BOOTING = "node.kubernetes.io/not-ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why an object does not get ready.

    Attributes:
        object: The object, as `Deployment "api"`.
        namespace: Where it is.
        pod: The pod at fault; empty if there is none.
        container: The container at fault; empty if it is the pod as a whole.
        reason: Kubernetes' word.
        message: Kubernetes' sentence.
        grace: Seconds for which this may be there and still pass.
        logs: Which log tells more: that of the container's last run, or of the one before.
        event: The last event's sentence.
        log: The last lines of the container's log.
    """

    object: str
    namespace: str = ""
    pod: str = ""
    container: str = ""
    reason: str
    message: str = ""
    grace: float = 0.0
    logs: Literal["", "current", "previous"] = ""
    event: str = ""
    log: tuple[str, ...] = ()

    def short(self) -> str:
        """Return at most six lines."""
        room = 6 - len(self._facts())
        return "\n".join([*self._facts(), *(f"  | {_cut(line)}" for line in self.log[-room:])])

    def full(self) -> str:
        """Return all that is known, with at most 20 log lines."""
        parts = self._facts(width=1000)
        if self.log:
            parts += ["  last log lines:", indent("\n".join(self.log[-20:]))]
        if self.pod:
            parts.append(f"  $ kubectl --namespace {self.namespace} describe pod {self.pod}")
        if fix := FIXES.get(self.reason):
            parts.append(f"  To fix: {fix}.")
        return "\n".join(parts)

    def _facts(self, *, width: int = 300) -> list[str]:
        parts = [self._head()]
        if self.message:
            parts.append(f"  {_cut(self.message, width)}")
        if self.event and self.event not in self.message and self.message not in self.event:
            parts.append(f"  event: {_cut(self.event, width)}")
        return parts

    def _head(self) -> str:
        where = f' container "{self.container}"' if self.container else ""
        where += (
            f' of pod "{self.pod}"' if self.container else f' pod "{self.pod}"' if self.pod else ""
        )
        return f"{self.object} cannot become ready:{where} {self.reason}"


def _cut(text: str, width: int = 300) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 3]}..."


def allowed_restarts(declared: KubeObject, restarts: int) -> int:
    """Return how often the object's containers may fail: a Job may say so itself."""
    limit = (declared.get("spec") or {}).get("backoffLimit") if declared["kind"] == "Job" else None
    return restarts if limit is None else int(limit)


def causes_of(obj: KubeObject, pods: Sequence[KubeObject], *, restarts: int) -> list[Cause]:
    """Return what speaks against `obj`, the surest first.

    Args:
        obj: A live object.
        pods: Its own pods (`own_pods`).
        restarts: Restarts of a container that are no failure.
    """
    found = [*_of_object(obj, pods, restarts)]
    for pod in pods:
        found += _of_pod(obj, pod, restarts)
    return sorted(found, key=lambda cause: cause.grace)


def _of_object(obj: KubeObject, pods: Sequence[KubeObject], restarts: int) -> Iterator[Cause]:
    if failure := condition(obj, "ReplicaFailure"):
        message = failure.get("message", "")
        yield _cause(obj, failure.get("reason", "ReplicaFailure"), message, _grace(message))
    if obj["kind"] == "Job":
        yield from _of_job(obj, pods, restarts)
    if obj["kind"] == "PersistentVolumeClaim" and (obj.get("status") or {}).get("phase") == "Lost":
        yield _cause(obj, "Lost", "the claim lost its volume")
    if obj["kind"] == "Pod" and phase_of(obj) == "Failed":
        yield _of_failed_pod(obj, obj)


def _grace(message: str) -> float:
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
        yield _cause(obj, reason, message)
        return
    last = max(broken, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    of_pod = _of_failed_pod(obj, last)
    yield _cause(
        obj, reason, f"{message}; {of_pod.message}", pod=of_pod.pod, container=of_pod.container,
        logs=of_pod.logs,
    )  # fmt: skip


def _of_failed_pod(obj: KubeObject, pod: KubeObject) -> Cause:
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    for one in containers_of(pod):
        ended = (one.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            reason, message = _ending(ended, one)
            return _cause(obj, reason, message, pod=name, container=one["name"], logs="current")
    return _cause(obj, status.get("reason", "Failed"), status.get("message", ""), pod=name)


def _of_pod(obj: KubeObject, pod: KubeObject, restarts: int) -> Iterator[Cause]:
    if phase_of(pod) in {"Failed", "Succeeded"}:
        return  # a controller makes a new one, or its object is judged as a whole
    for one in containers_of(pod):
        if cause := _of_container(obj, pod, one, restarts):
            yield cause
    for entry in (pod.get("status") or {}).get("conditions") or ():
        if entry["type"] == "PodScheduled" and entry.get("reason") == "Unschedulable":
            message = entry.get("message", "")
            if entry["status"] != "True" and BOOTING not in message:
                grace = VOLUME_GRACE if "PersistentVolumeClaim" in message else SCHEDULING_GRACE
                yield _cause(obj, "Unschedulable", message, grace, pod=pod["metadata"]["name"])


def _of_container(
    obj: KubeObject, pod: KubeObject, one: dict[str, Any], restarts: int
) -> Cause | None:
    state, name = one.get("state") or {}, pod["metadata"]["name"]
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    if reason in WAITING_FOR_GOOD:
        return _cause(obj, reason, waiting.get("message", ""), pod=name, container=one["name"])
    crashed = reason == "CrashLoopBackOff"
    ended = (one.get("lastState") if crashed else state) or {}
    ended = ended.get("terminated") or {}
    if not ended and not crashed:
        return None
    # One that ended and will be started again is judged only if no restart is allowed:
    # with some allowed, the kubelet says CrashLoopBackOff a moment later.
    counts = crashed or not restarts
    enough = counts and one.get("restartCount", 0) >= restarts and _failed(ended, one, pod)
    if ended.get("reason") != "OOMKilled" and not enough:
        return None
    word, message = _ending(ended, one)
    word = word if word == "OOMKilled" else reason or word
    logs: Literal["current", "previous"] = "previous" if crashed else "current"
    return _cause(obj, word, message, pod=name, container=one["name"], logs=logs)


def _failed(ended: dict[str, Any], one: dict[str, Any], pod: KubeObject) -> bool:
    if ended.get("exitCode"):
        return True
    init = (pod.get("status") or {}).get("initContainerStatuses") or ()
    always = pod.get("spec", {}).get("restartPolicy", "Always") == "Always"
    return always and not any(entry is one for entry in init)


def _ending(ended: dict[str, Any], one: dict[str, Any]) -> tuple[str, str]:
    count = one.get("restartCount", 0)
    times = f", after {count} restarts" if count > 1 else ", after 1 restart" if count else ""
    message = f"exit code {ended.get('exitCode')}{times}"
    detail = ended.get("message") or ""
    return ended.get("reason", "Error"), f"{message}: {detail}" if detail else message


def _cause(
    obj: KubeObject,
    reason: str,
    message: str,
    grace: float = 0.0,
    *,
    pod: str = "",
    container: str = "",
    logs: Literal["", "current", "previous"] = "",
) -> Cause:
    return Cause(
        object=title(obj), namespace=obj["metadata"].get("namespace", ""), pod=pod,
        container=container, reason=reason, message=message, grace=grace, logs=logs,
    )  # fmt: skip


def causes_in_events(
    obj: KubeObject, pods: Sequence[KubeObject], events: Sequence[KubeObject]
) -> list[Cause]:
    """Return what only events tell: volumes, sandboxes, and pods that could not be made.

    Args:
        obj: A live object.
        pods: Its own pods; judged are those that have started nothing, and `obj` itself.
        events: All events of its namespace.
    """
    found = []
    for one in [obj, *(pod for pod in pods if phase_of(pod) == "Pending")]:
        event = latest_event(one, events)
        if event and (reason := event.get("reason", "")) in EVENT_GRACES:
            message = event.get("message") or ""
            grace = max(EVENT_GRACES[reason], _grace(message))
            pod = "" if one is obj and obj["kind"] != "Pod" else one["metadata"]["name"]
            found.append(_cause(obj, reason, message, grace, pod=pod))
    return found


def latest_event(obj: KubeObject, events: Sequence[KubeObject]) -> KubeObject | None:
    """Return the last event about the object itself; of two at once, the later listed."""
    uid = obj["metadata"].get("uid")
    mine = [event for event in events if (event.get("involvedObject") or {}).get("uid") == uid]
    return max(enumerate(mine), key=lambda item: (_when(item[1]), item[0]), default=(0, None))[1]


def event_text(event: KubeObject) -> str:
    """Return an event as a sentence: `FailedMount: ... not found`."""
    return f"{event.get('reason', '')}: {event.get('message') or ''}".strip()


def _when(event: KubeObject) -> str:
    series = event.get("series") or {}
    when = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(when or event["metadata"].get("creationTimestamp", ""))[:19]

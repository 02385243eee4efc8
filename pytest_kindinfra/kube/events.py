"""What only events say: volumes, sandboxes, and pods that could not be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.kube.causes import cause_of
from pytest_kindinfra.kube.pods import containers_of, phase_of
from pytest_kindinfra.kube.reasons import Sight, reasons_seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from pytest_kindinfra.kube.causes import Cause
    from pytest_kindinfra.model import KubeObject


_UNINFORMATIVE = frozenset({"BackOff", "Failed"})
"""Their sentences are in the container's state as well, and better there."""


def causes_in_events(
    obj: KubeObject, pods: Sequence[KubeObject], events: Sequence[KubeObject], *, patience: float
) -> list[Cause]:
    """Return what speaks against `obj`, or against those of its pods that started nothing.

    An event counts only while it is the last one: what came after it shows that it passed.

    Args:
        obj: A live object.
        pods: Its own pods.
        events: All events of its namespace.
        patience: Seconds for what may pass by itself.
    """
    pending = [pod for pod in pods if phase_of(pod) == "Pending"]
    latest = [(_latest_event(one, events), one) for one in (obj, *pending)]
    latest += [(event, pod) for pod in pending for event in _of_claims(pod, events)]
    words = reasons_seen("event")
    causes = []
    for event, about in latest:
        if event and (reason := event.get("reason", "")) in words:
            pod = about["metadata"]["name"] if about["kind"] == "Pod" else ""
            sight = Sight(event.get("message") or "", patience)
            causes.append(cause_of(obj, reason, sight, pod=pod))
    return causes


def _of_claims(pod: KubeObject, events: Sequence[KubeObject]) -> Iterator[KubeObject]:
    """Yield the last event about each claim that the pod mounts."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    for name in (volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes):
        about = {"kind": "PersistentVolumeClaim", "name": name}
        mine = [event for event in events if about.items() <= event["involvedObject"].items()]
        if mine:
            yield max(mine, key=_when)


def _latest_event(obj: KubeObject, events: Sequence[KubeObject]) -> KubeObject | None:
    """Return the last event about the object itself; of two at once, the later listed."""
    mine = enumerate(_about(obj, events))
    return max(mine, key=lambda item: (_when(item[1]), item[0]), default=(0, None))[1]


def latest_warning(
    pod: KubeObject, events: Sequence[KubeObject], container: str = "", *, before: bool = False
) -> KubeObject | None:
    """Return the last warning about the pod that says more than its status.

    What is about another container is left out, and what is older than the container's start:
    a trouble that has passed explains nothing.

    Args:
        pod: A live pod.
        events: All events of its namespace.
        container: The container at fault; empty for any that is not ready.
        before: Its run before this one is meant.
    """
    there = [one for one in containers_of(pod) if container in {"", one["name"]}]
    since = {one["name"]: _start(one, pod, before=before) for one in there}
    unready = {one["name"] for one in there if container or not one.get("ready")}
    warnings = [
        event
        for event in events
        if event.get("type") == "Warning"
        and _says_more(event)
        and _concerns(event, {name: since[name] for name in unready})
    ]
    return _latest_event(pod, warnings)


def _says_more(event: KubeObject) -> bool:
    """Whether a warning says more than the status, which may not say why a pull failed."""
    pull = str(event.get("message") or "").startswith("Failed to pull image")
    return pull or event.get("reason") not in _UNINFORMATIVE


def _concerns(event: KubeObject, since: dict[str, str]) -> bool:
    """Whether an event is about one of the containers or the pod, and not from before."""
    path = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    _, brace, rest = path.partition("{")
    names = [rest.rstrip("}")] if brace else list(since)
    if not names:
        return True
    return any(name in since and _when(event) >= since[name] for name in names)


def _start(container: dict[str, Any], pod: KubeObject, *, before: bool) -> str:
    """Return when the container's run began, or when the pod was ready to start any."""
    state = {**(container.get("state") or {})}
    last = (container.get("lastState") or {}).get("terminated") or {}
    run = state.get("running") or state.get("terminated") or {}
    if (before or not run) and last:
        run = last
    conditions = (pod.get("status") or {}).get("conditions") or ()
    times = {
        entry["type"]: entry.get("lastTransitionTime") or ""
        for entry in conditions
        if entry["status"] == "True"
    }
    on_node = times.get("PodReadyToStartContainers") or times.get("PodScheduled") or ""
    return str(run.get("startedAt") or on_node)[:19]


def event_text(event: KubeObject) -> str:
    """Return an event as a sentence: `FailedMount: ... not found`."""
    return f"{event.get('reason', '')}: {(event.get('message') or '').strip()}".strip()


def _about(obj: KubeObject, events: Sequence[KubeObject]) -> Iterator[KubeObject]:
    uid = obj["metadata"].get("uid")
    return (event for event in events if (event.get("involvedObject") or {}).get("uid") == uid)


def _when(event: KubeObject) -> str:
    series = event.get("series") or {}
    when = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(when or event["metadata"].get("creationTimestamp", ""))[:19]

"""What only events tell: volumes, sandboxes, and pods that could not be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.workloads.causes import REPLICA_GRACE, against, passing_grace
from pytest_kindinfra.workloads.pods import phase_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.workloads.cause import Cause

EVENT_GRACES = {
    "FailedMount": 10.0,
    "FailedAttachVolume": 10.0,
    "FailedCreatePodSandBox": 20.0,
    "FailedCreate": REPLICA_GRACE,
    "ProvisioningFailed": 10.0,
}
UNINFORMATIVE = frozenset({"BackOff", "Failed"})
"""Their sentences are in the container's state as well, and better there."""


def causes_in_events(
    obj: KubeObject, pods: Sequence[KubeObject], events: Sequence[KubeObject]
) -> list[Cause]:
    """Return what speaks against `obj`, or against those of its pods that started nothing.

    An event counts only while it is the last one: what came after it shows that it passed.

    Args:
        obj: A live object.
        pods: Its own pods.
        events: All events of its namespace.
    """
    pending = [pod for pod in pods if phase_of(pod) == "Pending"]
    told = [(latest_event(one, events), one) for one in (obj, *pending)]
    told += [(event, pod) for pod in pending for event in _of_claims(pod, events)]
    found = []
    for event, one in told:
        if event and (reason := event.get("reason", "")) in EVENT_GRACES:
            message = event.get("message") or ""
            grace = max(EVENT_GRACES[reason], passing_grace(message))
            pod = one["metadata"]["name"] if one["kind"] == "Pod" else ""
            found.append(against(obj, reason, message, grace, pod=pod))
    return found


def _of_claims(pod: KubeObject, events: Sequence[KubeObject]) -> Iterator[KubeObject]:
    """Yield the last event about each claim that the pod mounts."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    for name in (volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes):
        about = {"kind": "PersistentVolumeClaim", "name": name}
        mine = [event for event in events if about.items() <= event["involvedObject"].items()]
        if mine:
            yield max(mine, key=_when)


def latest_event(obj: KubeObject, events: Sequence[KubeObject]) -> KubeObject | None:
    """Return the last event about the object itself; of two at once, the later listed."""
    mine = enumerate(_about(obj, events))
    return max(mine, key=lambda item: (_when(item[1]), item[0]), default=(0, None))[1]


def latest_warning(obj: KubeObject, events: Sequence[KubeObject]) -> KubeObject | None:
    """Return the last warning about the object that says more than its status."""
    warnings = [
        event
        for event in events
        if event.get("type") == "Warning" and event.get("reason") not in UNINFORMATIVE
    ]
    return latest_event(obj, warnings)


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

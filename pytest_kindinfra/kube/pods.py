"""Judge pods and what is behind a k8s service; objects as the API server returns them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, did_you_mean
from pytest_kindinfra.kube.objects import group, pod_templates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import KubeObject


SERVICE_NAME = "kubernetes.io/service-name"
"""The label of an EndpointSlice that names its k8s service."""


_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


_LASTING = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Pod"})
"""Kinds that are known to have pods as long as they are there: a DaemonSet may fit nowhere."""


def is_k8s_service(obj: KubeObject) -> bool:
    """Whether the object is Kubernetes' own Service."""
    return obj.get("kind") == "Service" and not group(obj)


def is_backed(obj: KubeObject, objects: Iterable[KubeObject]) -> bool:
    """Whether the object is a k8s service that selects pods which one of `objects` makes."""
    spec = obj.get("spec") or {}
    selects = bool(spec.get("selector")) and spec.get("type") != "ExternalName"
    return is_k8s_service(obj) and selects and any(_makes(one, obj) for one in objects)


def lack_of_pods(obj: KubeObject, slices: Sequence[KubeObject]) -> str:
    """Say what a k8s service lacks, by its EndpointSlices; nothing if a pod of it is ready."""
    endpoints = [entry for one in slices for entry in one.get("endpoints") or ()]
    ready = [one for one in endpoints if (one.get("conditions") or {}).get("ready", True)]
    if ready:
        return ""
    if endpoints:
        return f"0 of {len(endpoints)} pods behind it ready"
    wanted = (obj.get("spec") or {}).get("selector") or {}
    labels = ", ".join(f"{key}={value}" for key, value in sorted(wanted.items()))
    return f"no pod behind it (it selects {labels or 'none'})"


def _makes(workload: KubeObject, k8s_service: KubeObject) -> bool:
    if workload.get("kind") not in _LASTING or not pods_wanted(workload):
        return False
    if _namespace(workload) != _namespace(k8s_service):
        return False
    wanted = k8s_service["spec"]["selector"].items()
    return any(
        wanted <= ((template.get("metadata") or {}).get("labels") or {}).items()
        for template in pod_templates(workload)
    )


def _namespace(obj: KubeObject) -> str:
    return str(obj["metadata"].get("namespace") or "")


REVISION = "deployment.kubernetes.io/revision"


HASH = "controller-revision-hash"


_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
"""Deprecated for writing, but it is the only word on which of a DaemonSet's pods are new."""


_TEMPLATE_LABEL = "pod-template-generation"


def pods_wanted(obj: KubeObject) -> int:
    """Return how many pods the object asks for."""
    if obj["kind"] == "DaemonSet":
        return int((obj.get("status") or {}).get("desiredNumberScheduled", 0))
    if obj["kind"] in {"Pod", "Job"}:
        return 1
    if obj["kind"] not in {"Deployment", "ReplicaSet", "StatefulSet"}:
        return 0
    replicas = obj["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def observed(obj: KubeObject) -> bool:
    """Whether the object's controller has seen its last change; until then all is of old."""
    if not obj.get("apiVersion", "").startswith("apps/"):
        return True  # pods and jobs tell no such thing
    seen = (obj.get("status") or {}).get("observedGeneration") or 0
    return bool(seen >= obj["metadata"].get("generation", 0))


def own_pods(
    obj: KubeObject, pods: Sequence[KubeObject], replica_sets: Sequence[KubeObject] = ()
) -> tuple[KubeObject, ...]:
    """Return the pods of the object's newest revision, without those that are ending.

    None are, as long as its controller has not seen the last change.

    Args:
        obj: A live object.
        pods: All pods of its namespace.
        replica_sets: For a Deployment: those of its namespace.
    """
    uid = obj["metadata"].get("uid")
    living = _living(pods) if observed(obj) else []
    if obj["kind"] == "Pod":
        return tuple(pod for pod in living if pod["metadata"].get("uid") == uid)
    if obj["kind"] == "Deployment":
        newest = _newest_replica_set(obj, replica_sets)
        uid = newest["metadata"]["uid"] if newest else None
    mine = tuple(pod for pod in living if uid and owner_uid(pod) == uid)
    return tuple(pod for pod in mine if not _is_old(obj, pod))


def old_pods(obj: KubeObject, pods: Sequence[KubeObject]) -> tuple[KubeObject, ...]:
    """Return a StatefulSet's pods of older revisions, without those that are ending."""
    uid = obj["metadata"].get("uid")
    living = _living(pods) if obj["kind"] == "StatefulSet" and observed(obj) else []
    return tuple(pod for pod in living if owner_uid(pod) == uid and _is_old(obj, pod))


def _living(pods: Sequence[KubeObject]) -> list[KubeObject]:
    return [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]


def _is_old(obj: KubeObject, pod: KubeObject) -> bool:
    labels = pod["metadata"].get("labels") or {}
    if obj["kind"] == "StatefulSet":
        newest = (obj.get("status") or {}).get("updateRevision")
        return bool(newest and labels.get(HASH) != newest)
    if obj["kind"] == "DaemonSet":
        newest = (obj["metadata"].get("annotations") or {}).get(_TEMPLATE_GENERATION)
        return bool(newest and labels.get(_TEMPLATE_LABEL) != newest)
    return False


def _newest_replica_set(obj: KubeObject, replica_sets: Sequence[KubeObject]) -> KubeObject | None:
    """Return the ReplicaSet of the Deployment's newest revision."""
    uid = obj["metadata"].get("uid")
    mine = [one for one in replica_sets if owner_uid(one) == uid]
    return max(mine, key=_revision, default=None)


def owner_uid(obj: KubeObject) -> str | None:
    """Return the uid of the controller that made the object."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return None


def _revision(replica_set: KubeObject) -> int:
    return int((replica_set["metadata"].get("annotations") or {}).get(REVISION, 0))


def containers_of(pod: KubeObject) -> Iterator[dict[str, Any]]:
    """Yield the status of each container, init containers first."""
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def container_of(pod: KubeObject, wanted: str | None) -> str:
    """Return the name of the container in which a command is to run.

    Args:
        pod: The pod.
        wanted: Its name; None means the pod's default container, else its first one.

    Raises:
        KindInfraError: The pod has no container of that name.
    """
    spec, meta = pod["spec"], pod["metadata"]
    names = [one["name"] for one in spec["containers"]]
    if wanted is None:
        default = (meta.get("annotations") or {}).get(_DEFAULT_CONTAINER)
        return str(default if default in names else names[0])
    for others in ("initContainers", "ephemeralContainers"):
        names += [one["name"] for one in spec.get(others) or ()]
    if wanted not in names:
        hint = did_you_mean(wanted, names) or f"; it has: {', '.join(names)}"
        msg = f'pod "{meta["name"]}" has no container "{wanted}"{hint}'
        raise KindInfraError(msg)
    return wanted


def sidecars_of(pod_spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the init containers that run as long as the pod does."""
    return frozenset(
        one["name"]
        for one in pod_spec.get("initContainers") or ()
        if one.get("restartPolicy") == "Always"
    )


def is_done(pod: KubeObject) -> bool:
    """Whether all main containers of the pod have ended, so that its sidecars end as well."""
    mains = (pod.get("status") or {}).get("containerStatuses") or ()
    return bool(mains) and all("terminated" in (one.get("state") or {}) for one in mains)


def is_disrupted(pod: KubeObject) -> bool:
    """Whether the pod failed by an eviction or the like, not by what its containers did."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "DisruptionTarget" and one["status"] == "True" for one in conditions)


def frees_resources(pod: KubeObject) -> bool:
    """Whether the pod is on a node and will leave it by itself: it is ending, or is a Job's."""
    if not (pod.get("spec") or {}).get("nodeName") or phase_of(pod) in {"Succeeded", "Failed"}:
        return False
    owners = pod["metadata"].get("ownerReferences") or ()
    of_job = any(one.get("kind") == "Job" and one.get("controller") for one in owners)
    return of_job or bool(pod["metadata"].get("deletionTimestamp"))


def crashes(pod: KubeObject) -> int:
    """Return how often the container of the pod that crashed most has done so."""
    counts = [
        one.get("restartCount", 0) + ("running" not in (one.get("state") or {}))
        for one in containers_of(pod)
        if one.get("restartCount") or "terminated" in (one.get("state") or {})
    ]
    return max(counts, default=0)


def phase_of(pod: KubeObject) -> str:
    """Return the pod's phase."""
    return str((pod.get("status") or {}).get("phase", "Pending"))


def stage_of(pods: Iterable[KubeObject]) -> str:
    """Return what the pods are at, `Pending, ContainerCreating`; empty once all of them run."""
    for pod in pods:
        if not runs(pod):
            waits = (((one.get("state") or {}).get("waiting")) or {} for one in containers_of(pod))
            reason = next((one["reason"] for one in waits if one.get("reason")), "")
            return f"{phase_of(pod)}, {reason}" if reason else phase_of(pod)
    return ""


def runs(pod: KubeObject) -> bool:
    """Whether every container of the pod runs, or the pod has done its work."""
    if phase_of(pod) == "Succeeded":
        return True
    states = [
        one.get("state") or {} for one in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
    return bool(states) and all("running" in state for state in states)


def has_probes(obj: KubeObject) -> bool:
    """Whether each container of the object's pods says by a probe when it is ready.

    Objects whose pods are not asked whether they are ready, such as Jobs, count as such.
    """
    if not pods_wanted(obj) or obj["kind"] == "Job":
        return True
    spec = obj["spec"] if obj["kind"] == "Pod" else obj["spec"]["template"]["spec"]
    sidecars = sidecars_of(spec)
    lasting = [one for one in spec.get("initContainers") or () if one["name"] in sidecars]
    return all("readinessProbe" in one for one in (*spec["containers"], *lasting))


def waits_for_pods(obj: KubeObject, pods: Sequence[KubeObject]) -> bool:
    """Whether some of the object's pods are not made, or have started nothing."""
    return len(pods) < pods_wanted(obj) or any(phase_of(pod) == "Pending" for pod in pods)


def describe_pod(pod: KubeObject) -> str:
    """Say in one line how the pod is doing: its phase, then what each container lacks."""
    status = pod.get("status") or {}
    parts = [f'pod "{pod["metadata"]["name"]}" is {phase_of(pod)}']
    if status.get("reason"):
        parts.append(f"{status['reason']}: {status.get('message', '')}".rstrip(": "))
    parts += [_describe_scheduling(entry) for entry in status.get("conditions") or ()]
    parts += [_describe_container(one) for one in containers_of(pod)]
    return ", ".join(part for part in parts if part)


def after_restarts(container: dict[str, Any], joint: str) -> str:
    """Return the end of a sentence about a container: how often it was started again."""
    count = container.get("restartCount", 0)
    plural = "" if count == 1 else "s"
    return f"{joint}after {count} restart{plural}" if count else ""


def _describe_scheduling(condition: dict[str, Any]) -> str:
    if condition["type"] != "PodScheduled" or condition["status"] == "True":
        return ""
    return f"{condition.get('reason', 'not scheduled')}: {condition.get('message', '')}".rstrip(
        ": "
    )


def _describe_container(container: dict[str, Any]) -> str:
    state = container.get("state") or {}
    name = f'container "{container["name"]}"'
    restarts = after_restarts(container, " ")
    if "running" in state:
        return "" if container.get("ready") else f"{name} runs but is not ready{restarts}"
    if "waiting" in state:
        return f"{name} waits: {state['waiting'].get('reason', 'unknown')}{restarts}"
    ended = state.get("terminated") or {}
    if ended.get("exitCode") == 0:
        return ""
    return f"{name} ended: {ended.get('reason', 'unknown')}, exit code {ended.get('exitCode')}"

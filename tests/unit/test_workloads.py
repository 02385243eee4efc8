"""Objects as the API server tells them, and what is made of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube.causes import Cause
from pytest_kindinfra.kube.diagnosis import Limits, causes_of, limits_of
from pytest_kindinfra.kube.events import causes_in_events, latest_warning
from pytest_kindinfra.kube.pods import (
    crashes,
    describe_pod,
    has_probes,
    old_pods,
    own_pods,
    waits_for_pods,
)
from pytest_kindinfra.kube.readiness import gates, readiness, started
from pytest_kindinfra.model import PATIENCE

if TYPE_CHECKING:
    from pytest_kindinfra.model import KubeObject

VERSIONS = {"Pod": "v1", "PersistentVolumeClaim": "v1", "Service": "v1", "Job": "batch/v1",
            "CronJob": "batch/v1",
            "CustomResourceDefinition": "apiextensions.k8s.io/v1",
            "APIService": "apiregistration.k8s.io/v1"}  # fmt: skip
ABSENT = (
    'failed to resolve reference "docker.io/library/none:1": docker.io/library/none:1: not found'
)
NO_FILE = 'runc create failed: exec: "/no/such": stat /no/such: no such file or directory'
PERMANENT = [
    ("ErrImageNeverPull", "Container image is not present with pull policy of Never"),
    ("InvalidImageName", 'Failed to apply default image tag "UPPER:1"'),
    ("ErrImagePull", ABSENT),
    ("ImagePullBackOff", f'Back-off pulling image "none:1": ErrImagePull: {ABSENT}'),
    ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root"),
    ("CreateContainerError", "failed to generate spec: no command specified"),
    ("RunContainerError", NO_FILE),
    ("StartError", NO_FILE),
    ("ContainerCannotRun", NO_FILE),
]
PASSING = [
    ("ErrImagePull", 'Head "https://x.io/v2/": net/http: TLS handshake timeout'),
    ("ImagePullBackOff", 'Back-off pulling image "x.io/none:1"'),
    ("RegistryUnavailable", ""),
    ("ImageInspectError", "rpc error: code = Unavailable"),
    ("CreateContainerConfigError", 'secret "late" not found'),
    ("CreateContainerConfigError", "couldn't find key user in Secret ns/late"),
    ("CreateContainerConfigError", "services have not yet been read at least once"),
    ("CreateContainerError", "context deadline exceeded"),
    ("CreateContainerError", 'failed to reserve container name "a": name "a" is reserved for "b"'),
    ("RunContainerError", "context deadline exceeded"),
]


def live(kind: str, spec: dict[str, Any] | None = None, **status: Any) -> KubeObject:
    """Return an object whose controller has seen its last change."""
    if VERSIONS.get(kind) is None:
        status.setdefault("observedGeneration", 2)
    meta = {"name": "api", "namespace": "ns", "uid": "u1", "generation": 2}
    version = VERSIONS.get(kind, "apps/v1")
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": meta,
        "spec": spec or {},
        "status": status,
    }


def true(kind: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": "True", **more}


def pod(
    name: str = "api-1",
    *,
    owner: str = "u1",
    labels: dict[str, str] | None = None,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> KubeObject:
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": f"uid-{name}",
        "labels": labels or {},
        "ownerReferences": [{"uid": owner, "controller": True}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": spec or {},
        "status": status,
    }


def container(restarts: int = 0, **states: Any) -> dict[str, Any]:
    """Return a container status; `last` is the state before."""
    last = states.pop("last", {})
    return {"name": "main", "state": states, "lastState": last, "restartCount": restarts}


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def backing_off(restarts: int, code: int = 1, reason: str = "Error") -> dict[str, Any]:
    return container(restarts, waiting={"reason": "CrashLoopBackOff"}, last=ended(code, reason))


# Readiness


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (live("Deployment", replicas=1, updatedReplicas=1, availableReplicas=1), ""),
        (live("Deployment", {"replicas": 0}), ""),
        (live("Deployment", {"replicas": 2}, updatedReplicas=1), "1 of 2 pods made"),
        (
            live("Deployment", updatedReplicas=1, replicas=2, availableReplicas=1),
            "1 pods of an older revision still there",
        ),
        (live("Deployment", updatedReplicas=1, replicas=1), "0 of 1 pods available"),
        (
            live("Deployment", observedGeneration=1, updatedReplicas=1, availableReplicas=1),
            "its controller has not seen the last change",
        ),
        (
            {**live("Deployment"), "status": {}},
            "its controller has not seen the last change",
        ),
        (live("ReplicaSet", availableReplicas=1), ""),
        (live("ReplicaSet", readyReplicas=1), "0 of 1 pods available"),
        (live("StatefulSet", readyReplicas=1, availableReplicas=1), ""),
        (live("StatefulSet", readyReplicas=1), ""),
        (live("StatefulSet", readyReplicas=1, availableReplicas=0), "0 of 1 pods available"),
        (
            live("StatefulSet", currentRevision="a", updateRevision="b", readyReplicas=1),
            "0 of 1 pods updated",
        ),
        (
            live(
                "StatefulSet",
                {"updateStrategy": {"rollingUpdate": {"partition": 1}}},
                currentRevision="a",
                updateRevision="b",
                readyReplicas=1,
            ),
            "",
        ),
        (
            live(
                "StatefulSet",
                {"updateStrategy": {"type": "OnDelete"}},
                currentRevision="a",
                updateRevision="b",
                readyReplicas=1,
            ),
            "",
        ),
        (live("DaemonSet", desiredNumberScheduled=0), ""),
        (
            live(
                "DaemonSet", desiredNumberScheduled=2, updatedNumberScheduled=2, numberAvailable=1
            ),
            "1 of 2 pods available",
        ),
        (live("DaemonSet", desiredNumberScheduled=2, numberAvailable=2), "0 of 2 pods made"),
        (live("Pod", phase="Running", conditions=[true("Ready")]), ""),
        (live("Pod", phase="Succeeded"), ""),
        (live("Pod", phase="Running"), "phase Running, not ready"),
        (live("Pod"), "phase Pending, not ready"),
        (live("Job", conditions=[true("Complete")]), ""),
        (live("Job", {"suspend": True}), ""),
        (live("Job", active=1, failed=2), "not complete (1 active, 2 failed)"),
        (live("Job"), "not complete (no pod yet)"),
        (live("PersistentVolumeClaim", phase="Pending"), ""),
        (live("PersistentVolumeClaim", phase="Lost"), "its volume was lost"),
        (live("CustomResourceDefinition", conditions=[true("Established")]), ""),
        (live("CustomResourceDefinition"), "not established"),
        (live("APIService", conditions=[true("Available")]), ""),
        (live("APIService"), "not available"),
        (
            live(
                "APIService",
                conditions=[
                    {"type": "Available", "status": "False", "reason": "No", "message": "gone"}
                ],
            ),
            "not available: No: gone",
        ),
        (live("CronJob"), ""),
        (live("Service"), ""),
        ({"apiVersion": "example.com/v1", "kind": "Deployment", "metadata": {"name": "x"}}, ""),
    ],
)
def test_readiness_is_read_from_the_objects_own_status(obj: KubeObject, why: str) -> None:
    verdict = readiness(obj)

    assert verdict.why == why
    assert verdict.ready == (not why)


def test_only_kinds_with_a_rule_are_waited_for() -> None:
    assert gates(live("Deployment"))
    assert not gates(live("Service"))
    assert not gates(live("CronJob"))


@pytest.mark.parametrize(
    ("obj", "statuses", "ready"),
    [
        (live("Deployment"), [[container(running={})]], True),
        (live("Deployment"), [[container(running={}), container(waiting={})]], False),
        (live("Deployment"), [], False),
        (live("Deployment", {"replicas": 2}), [[container(running={})]], False),
        (live("StatefulSet", {"replicas": 2}), [[container(running={})]], True),
        (live("Deployment", observedGeneration=1), [[container(running={})]], False),
        (live("Job"), [[container(running={})]], True),
        (live("CustomResourceDefinition"), [], False),
    ],
)
def test_started_means_that_the_containers_run(
    obj: KubeObject, statuses: list[list[dict[str, Any]]], *, ready: bool
) -> None:
    pods = [pod(phase="Running", containerStatuses=entry) for entry in statuses]

    assert started(obj, pods).ready == ready


@pytest.mark.parametrize(
    ("obj", "probed"),
    [
        (live("Pod", {"containers": [{"readinessProbe": {}}]}), True),
        (live("Pod", {"containers": [{"readinessProbe": {}}, {}]}), False),
        (live("Deployment", {"template": {"spec": {"containers": [{}]}}}), False),
        (live("Deployment", {"replicas": 0, "template": {"spec": {"containers": [{}]}}}), True),
        (live("Job", {"template": {"spec": {"containers": [{}]}}}), True),
        (live("CustomResourceDefinition"), True),
    ],
)
def test_it_is_known_whose_readiness_is_probed(obj: KubeObject, *, probed: bool) -> None:
    assert has_probes(obj) == probed


# Whose pods


def replica_set(uid: str, revision: int, owner: str = "u1") -> KubeObject:
    return {
        "metadata": {
            "uid": uid,
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"uid": owner, "controller": True}],
        }
    }


def names(pods: tuple[KubeObject, ...]) -> list[str]:
    return [one["metadata"]["name"] for one in pods]


def test_a_deployments_pods_are_those_of_its_newest_replica_set() -> None:
    pods = [pod("old", owner="rs9"), pod("new", owner="rs10"), pod("foreign", owner="other")]
    sets = [replica_set("rs9", 9), replica_set("rs10", 10), replica_set("other", 99, owner="u2")]

    assert names(own_pods(live("Deployment"), pods, sets)) == ["new"]
    assert own_pods(live("Deployment"), pods, []) == ()


def test_a_stateful_sets_pods_are_those_of_its_newest_revision() -> None:
    pods = [
        pod("old", labels={"controller-revision-hash": "a"}),
        pod("new", labels={"controller-revision-hash": "b"}),
        pod("foreign", owner="u2", labels={"controller-revision-hash": "b"}),
    ]

    assert names(own_pods(live("StatefulSet", updateRevision="b"), pods)) == ["new"]


def test_a_daemon_sets_pods_are_those_of_its_newest_template() -> None:
    obj = live("DaemonSet")
    obj["metadata"]["annotations"] = {"deprecated.daemonset.template.generation": "2"}
    pods = [pod(f"v{number}", labels={"pod-template-generation": number}) for number in "12"]

    assert names(own_pods(obj, pods)) == ["v2"]


def test_a_stateful_sets_older_pods_are_known_too() -> None:
    old = pod("old", labels={"controller-revision-hash": "a"})
    new = pod("new", labels={"controller-revision-hash": "b"})

    assert names(old_pods(live("StatefulSet", updateRevision="b"), [old, new])) == ["old"]
    assert old_pods(live("DaemonSet"), [old, new]) == ()


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"])
def test_nothing_is_judged_before_the_controller_saw_the_last_change(kind: str) -> None:
    condition = true("ReplicaFailure", reason="FailedCreate", message="of the old one")
    obj = live(kind, observedGeneration=1, conditions=[condition])

    assert own_pods(obj, [pod(), pod(owner="rs1")], [replica_set("rs1", 1)]) == ()
    assert causes_of(obj, [], Limits(restarts=0)) == []


def test_a_pod_that_is_ending_counts_no_more() -> None:
    ending = pod()
    ending["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"

    assert own_pods(live("Job"), [ending]) == ()


def test_a_pod_is_its_own() -> None:
    one = pod("one")

    assert names(own_pods(one, [one, pod("two")])) == ["one"]


def test_pods_that_nobody_controls_are_nobodys() -> None:
    lone = pod()
    lone["metadata"]["ownerReferences"][0]["controller"] = False

    assert own_pods(live("Job"), [lone]) == ()


@pytest.mark.parametrize(
    ("pods", "waits"),
    [([], True), ([pod()], True), ([pod(phase="Running")], False)],
)
def test_pods_that_are_missing_or_pending_are_waited_for(
    pods: list[KubeObject], *, waits: bool
) -> None:
    assert waits_for_pods(live("Deployment"), pods) == waits


# Causes


def causes(
    *containers: dict[str, Any], restarts: int = 2, kind: str = "Deployment", **status: Any
) -> list[Cause]:
    status.setdefault("phase", "Running")
    one = pod(containerStatuses=list(containers), **status)
    return causes_of(live(kind), [one], Limits(restarts=restarts))


@pytest.mark.parametrize(("reason", "message"), PERMANENT)
def test_a_container_that_waits_for_good_is_a_cause_at_once(reason: str, message: str) -> None:
    waiting = container(waiting={"reason": reason, "message": message})
    if reason in {"StartError", "ContainerCannotRun"}:
        ended = {"terminated": {"exitCode": 128, "reason": reason, "message": message}}
        waiting = container(waiting={"reason": "CrashLoopBackOff"}, last=ended)

    [cause] = causes(waiting, phase="Pending")

    assert (cause.reason, cause.message, cause.grace) == (reason, message, 0)
    assert (cause.object, cause.pod, cause.container) == ('Deployment "api"', "api-1", "main")
    assert cause.logs == ""


@pytest.mark.parametrize(("reason", "message"), PASSING)
def test_a_container_that_waits_for_what_may_come_is_a_cause_after_the_patience(
    reason: str, message: str
) -> None:
    waiting = container(waiting={"reason": reason, "message": message})

    [cause] = causes(waiting, phase="Pending")

    assert (cause.reason, cause.message, cause.grace) == (reason, message, PATIENCE)


def test_a_pull_that_fails_and_backs_off_is_one_trouble() -> None:
    reasons = ["ErrImagePull", "ImagePullBackOff"]
    found = [causes(container(waiting={"reason": one}), phase="Pending") for one in reasons]

    assert [cause.family for [cause] in found] == ["pull", "pull"]


def test_a_command_that_a_volume_may_bring_is_waited_for() -> None:
    token = {"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
    spec = {"containers": [{"name": "main", "volumeMounts": [token, {"mountPath": "/tools"}]}]}
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": NO_FILE}}
    failed = container(9, waiting={"reason": "CrashLoopBackOff"}, last=ended)

    def graces() -> list[float]:
        one = pod(spec=spec, containerStatuses=[failed])
        return [cause.grace for cause in causes_of(live("Deployment"), [one], Limits(restarts=2))]

    waited = graces()
    spec["containers"][0]["volumeMounts"] = [token]

    assert (waited, graces()) == ([PATIENCE], [0])


@pytest.mark.parametrize(("restarts", "is_cause"), [(1, False), (2, True)])
def test_a_hook_after_the_start_that_fails_counts_as_a_crash(
    restarts: int, *, is_cause: bool
) -> None:
    waiting = container(restarts, waiting={"reason": "PostStartHookError", "message": "no"})

    assert bool(causes(waiting, restarts=2)) == is_cause


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_a_container_that_is_on_its_way_is_none(reason: str) -> None:
    assert causes(container(waiting={"reason": reason}), phase="Pending") == []


@pytest.mark.parametrize(
    ("status", "restarts", "expected"),
    [
        (backing_off(2), 2, "CrashLoopBackOff"),
        (backing_off(1), 2, None),
        (backing_off(0, 0, "Completed"), 0, "Completed"),
        (container(2, **ended(1)), 2, "Error"),
        (container(1, **ended(1)), 2, None),
        (container(0, **ended(1)), 0, "Error"),
        (container(5, **ended(255, "Unknown")), 2, None),
        (container(7, running={}), 2, None),
        (container(3, running={}, last=ended(137)), 2, "Error"),
        (container(2, running={}, last=ended(137)), 2, None),
        ({**container(3, running={}, last=ended(137)), "ready": True}, 2, None),
        (container(3, running={}, last=ended(255, "Unknown")), 2, None),
        (container(0, **ended(137, "OOMKilled")), 2, "OOMKilled"),
        (backing_off(1, 137, "OOMKilled"), 2, "OOMKilled"),
        (container(1, running={}, last=ended(137, "OOMKilled")), 2, "OOMKilled"),
        ({**container(1, running={}, last=ended(137, "OOMKilled")), "ready": True}, 2, None),
    ],
)
def test_a_crash_is_a_cause_when_it_is_one_too_many(
    status: dict[str, Any], restarts: int, expected: str | None
) -> None:
    found = causes(status, restarts=restarts)

    assert [cause.reason for cause in found] == ([expected] if expected else [])


def test_a_crash_is_told_with_its_exit_code_and_where_its_log_is() -> None:
    [over] = causes(backing_off(2, 3))
    [now] = causes(container(1, **ended(4)), restarts=1)

    assert (over.message, over.logs) == ("exit code 3, after 2 restarts", "previous")
    assert (now.message, now.logs) == ("exit code 4, after 1 restart", "current")
    assert now.grace > 0, "it may be started again in the same moment"


def test_an_init_container_that_fails_is_named() -> None:
    init = {**backing_off(2), "name": "migrate"}

    [cause] = causes(initContainerStatuses=[init], phase="Pending")

    assert cause.container == "migrate"


def test_an_init_container_that_is_done_is_no_cause() -> None:
    init = container(0, **ended(0, "Completed"))

    assert causes(initContainerStatuses=[init], restarts=0, phase="Pending") == []


@pytest.mark.parametrize(
    ("message", "grace"),
    [
        ("0/1 nodes are available: 1 Insufficient cpu.", PATIENCE),
        ("pod has unbound immediate PersistentVolumeClaims", PATIENCE + 5),
        ("1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }", PATIENCE),
        ("1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }", math.inf),
    ],
)
def test_a_pod_that_fits_nowhere_is_a_cause_after_a_grace(message: str, grace: float) -> None:
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
    }  # fmt: skip

    found = causes(conditions=[condition], phase="Pending")

    assert [(one.reason, one.grace) for one in found] == [("Unschedulable", grace)]
    assert found[0].shortage == ("Insufficient" in message)


@pytest.mark.parametrize(
    ("message", "grace"),
    [
        ('pods "a" is forbidden: violates PodSecurity "restricted:latest"', 1),
        ('Pod "a" is invalid: spec.containers: Required value', 1),
        ("exceeded quota", PATIENCE),
        ('error looking up service account ns/late: serviceaccount "late" not found', PATIENCE),
        ('failed calling webhook "x.y": connect: connection refused', PATIENCE),
        ("no PriorityClass with name late was found", PATIENCE),
    ],
)
def test_pods_that_cannot_be_made_are_a_cause(message: str, grace: float) -> None:
    condition = true("ReplicaFailure", reason="FailedCreate", message=message)

    [cause] = causes_of(live("Deployment", conditions=[condition]), [], Limits(restarts=2))

    assert (cause.reason, cause.message, cause.grace) == ("FailedCreate", message, grace)


def failed_pod() -> KubeObject:
    return pod(phase="Failed", containerStatuses=[container(0, **ended(3))])


@pytest.mark.parametrize("condition", ["Failed", "FailureTarget"])
def test_a_failed_job_is_told_with_its_pod(condition: str) -> None:
    job = live("Job", conditions=[true(condition, reason="BackoffLimitExceeded", message="limit")])

    [cause] = causes_of(job, [failed_pod()], Limits(restarts=2))

    assert (cause.reason, cause.message) == ("BackoffLimitExceeded", "limit; exit code 3")
    assert (cause.pod, cause.container, cause.logs) == ("api-1", "main", "current")


def test_a_failed_job_without_a_pod_is_told_as_well() -> None:
    job = live("Job", conditions=[true("Failed", reason="DeadlineExceeded", message="too long")])

    [cause] = causes_of(job, [], Limits(restarts=2))

    assert (cause.reason, cause.message, cause.pod) == ("DeadlineExceeded", "too long", "")


@pytest.mark.parametrize(("failed", "is_cause"), [(1, False), (2, False), (3, True)])
def test_a_jobs_pods_may_fail_as_often_as_restarts_are_allowed(
    failed: int, *, is_cause: bool
) -> None:
    found = causes_of(live("Job", failed=failed), [failed_pod()], Limits(restarts=2))

    assert bool(found) == is_cause


@pytest.mark.parametrize(
    ("obj", "allowed"),
    [
        ({"kind": "Job", "spec": {"backoffLimit": 4}}, 4),
        ({"kind": "Job", "spec": {"backoffLimit": 6}}, 6),
        ({"kind": "Job", "spec": {"backoffLimit": 0}}, 0),
        ({"kind": "Job", "spec": {}}, 2),
        ({"kind": "Deployment", "spec": {"backoffLimit": 6}}, 2),
    ],
)
def test_a_job_may_say_itself_how_often_it_may_fail(obj: KubeObject, allowed: int) -> None:
    assert limits_of(obj, restarts=2).of_job == allowed


@pytest.mark.parametrize(
    "key", ["backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy", "successPolicy"]
)
def test_a_job_that_says_in_detail_when_it_has_failed_is_judged_by_its_own_status(key: str) -> None:
    limits = limits_of({"kind": "Job", "spec": {key: 1}}, restarts=0)
    crashed = pod(phase="Running", containerStatuses=[container(3, **ended(137, "OOMKilled"))])

    assert causes_of(live("Job", failed=9), [failed_pod(), crashed], limits) == []


def test_a_job_of_which_an_index_has_failed_for_good_is_a_cause() -> None:
    limits = Limits(restarts=0, by_itself=True)
    lenient = live("Job", {"successPolicy": {"rules": []}}, failed=2, failedIndexes="3")

    [cause] = causes_of(live("Job", failed=2, failedIndexes="3"), [failed_pod()], limits)

    assert cause.reason == "FailedIndexes"
    assert cause.message == "indexes that have failed for good: 3; exit code 3"
    assert causes_of(lenient, [failed_pod()], limits) == []


def test_a_jobs_pods_that_were_evicted_do_not_count() -> None:
    evicted = pod(phase="Failed", conditions=[true("DisruptionTarget")])

    assert causes_of(live("Job", failed=1), [evicted], Limits(restarts=0)) == []
    assert causes_of(live("Job", failed=1), [failed_pod()], Limits(restarts=0))


# Native sidecars


SIDECAR = {
    "initContainers": [{"name": "side", "restartPolicy": "Always"}],
    "restartPolicy": "Never",
}


def with_sidecar(side: dict[str, Any], **main: Any) -> KubeObject:
    return pod(
        spec=SIDECAR,
        phase="Running",
        initContainerStatuses=[{**side, "name": "side"}],
        containerStatuses=[container(**main)],
    )


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
@pytest.mark.parametrize(
    ("side", "reason"),
    [
        (backing_off(2, 1), "CrashLoopBackOff"),
        (backing_off(2, 0, "Completed"), "Completed"),
        (container(2, **ended(0, "Completed")), "Completed"),
        (backing_off(1, 0, "Completed"), None),
        ({**container(0, running={}), "ready": True}, None),
    ],
)
def test_a_sidecar_that_ends_again_and_again_is_a_cause(
    kind: str, side: dict[str, Any], reason: str | None
) -> None:
    limits = Limits(restarts=2, failures=0)

    found = causes_of(live(kind), [with_sidecar(side, running={})], limits)

    assert [(one.reason, one.container) for one in found] == ([(reason, "side")] if reason else [])


@pytest.mark.parametrize("code", [0, 143])
def test_a_sidecar_that_ends_since_the_work_is_done_is_no_cause(code: int) -> None:
    done = with_sidecar(container(0, **ended(code)), **ended(0, "Completed"))

    assert causes_of(live("Job"), [done], Limits(restarts=0)) == []


def test_a_sidecar_without_a_probe_must_stay_up_too() -> None:
    probed = {"name": "main", "readinessProbe": {}}

    assert not has_probes(live("Pod", {"containers": [probed], **SIDECAR}))


def test_a_bare_pod_that_failed_is_a_cause() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="low on memory")

    [crash] = causes_of(failed_pod(), [failed_pod()], Limits(restarts=2))
    [lost] = causes_of(evicted, [evicted], Limits(restarts=2))

    assert (crash.object, crash.reason, crash.container) == ('Pod "api-1"', "Error", "main")
    assert (lost.reason, lost.message) == ("Evicted", "low on memory")


def test_a_failed_pod_of_a_deployment_is_replaced_and_no_cause() -> None:
    assert causes_of(live("Deployment"), [failed_pod()], Limits(restarts=2)) == []


def test_a_lost_claim_is_a_cause() -> None:
    [cause] = causes_of(live("PersistentVolumeClaim", phase="Lost"), [], Limits(restarts=2))

    assert cause.reason == "Lost"


def test_the_surest_cause_comes_first() -> None:
    unsure = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    broken = container(waiting={"reason": "ErrImagePull", "message": ABSENT})
    pods = [pod("a", conditions=[unsure]), pod("b", containerStatuses=[broken])]

    found = causes_of(live("Deployment"), pods, Limits(restarts=2))

    assert [cause.reason for cause in found] == ["ErrImagePull", "Unschedulable"]


# Events


def event(reason: str, second: int, about: str = "uid-api-1", kind: str = "Warning") -> KubeObject:
    return {
        "metadata": {},
        "involvedObject": {"uid": about},
        "reason": reason,
        "message": f"{reason} happened",
        "type": kind,
        "lastTimestamp": f"2030-01-01T00:00:{second:02}Z",
    }


@pytest.mark.parametrize(
    ("events", "reasons"),
    [
        ([event("FailedMount", 5)], ["FailedMount"]),
        ([event("FailedMount", 5), event("Pulling", 6, kind="Normal")], []),
        ([event("FailedMount", 5), event("Pulling", 5, kind="Normal")], []),
        ([event("Scheduled", 4), event("FailedCreatePodSandBox", 5)], ["FailedCreatePodSandBox"]),
        ([event("FailedMount", 5, about="other")], []),
        ([event("FailedCreate", 5, about="u1")], ["FailedCreate"]),
        ([], []),
    ],
)
def test_an_event_is_a_cause_while_it_is_the_last(
    events: list[KubeObject], reasons: list[str]
) -> None:
    found = causes_in_events(live("StatefulSet"), [pod(phase="Pending")], events, patience=20)

    assert [cause.reason for cause in found] == reasons
    assert all(cause.grace >= 1 for cause in found)


def test_a_claim_that_gets_no_volume_speaks_against_the_pod_that_mounts_it() -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "w"}]
    about = {"kind": "PersistentVolumeClaim", "name": "data", "uid": "uid-data"}
    waits = {**event("WaitForFirstConsumer", 1), "involvedObject": about}
    fails = {**event("ProvisioningFailed", 2), "involvedObject": about, "message": "no class"}
    other = {**fails, "involvedObject": {**about, "name": "other"}}
    pending = pod(phase="Pending", spec={"volumes": volumes})

    found = causes_in_events(live("Deployment"), [pending], [waits, fails, other], patience=20)

    assert [(one.reason, one.message, one.pod, one.grace) for one in found] == [
        ("ProvisioningFailed", "no class", "api-1", 20)
    ]
    assert (
        causes_in_events(live("Deployment"), [pending], [fails, {**waits, **later(3)}], patience=20)
        == []
    )


def later(second: int) -> dict[str, str]:
    return {"lastTimestamp": f"2030-01-01T00:00:{second:02}Z"}


@pytest.mark.parametrize(
    ("statuses", "count"),
    [
        ([container(running={})], 0),
        ([container(2, running={})], 2),
        ([container(2, waiting={}), container(1, running={})], 3),
        ([container(**ended(1))], 1),
        ([container(waiting={"reason": "ContainerCreating"})], 0),
        ([], 0),
    ],
)
def test_the_crashes_of_a_pod_are_those_of_its_worst_container(
    statuses: list[dict[str, Any]], count: int
) -> None:
    assert crashes(pod(containerStatuses=statuses)) == count


def test_the_last_warning_is_one_that_says_more_than_the_status() -> None:
    events = [event("Unhealthy", 1), event("BackOff", 2), event("Pulled", 3, kind="Normal")]

    found = latest_warning(pod(), events)

    assert found
    assert found["reason"] == "Unhealthy"


def test_why_a_pull_failed_is_a_warning_that_says_more() -> None:
    pull = {**event("Failed", 1), "message": 'Failed to pull image "x": no such host'}
    error = {**event("Failed", 2), "message": "Error: ErrImagePull"}

    assert latest_warning(pod(), [pull, error]) == pull


def test_a_warning_of_another_container_or_of_a_time_before_the_start_is_left_out() -> None:
    started = {"startedAt": "2030-01-01T00:00:10Z"}
    last = {"terminated": {**started, "exitCode": 1}}
    one = pod(
        containerStatuses=[container(1, running={"startedAt": "2030-01-01T00:00:30Z"}, last=last)]
    )

    def about(path: str, second: int) -> KubeObject:
        found = event("Unhealthy", second)
        found["involvedObject"] |= {"fieldPath": path} if path else {}
        return found

    own, older = about("spec.containers{main}", 20), about("", 9)
    other = about("spec.initContainers{side}", 40)

    assert latest_warning(one, [older, other, own], "main", before=True) == own
    assert latest_warning(one, [older, other, own], "main") is None
    assert latest_warning(one, [older, other, own]) is None


def test_what_kept_a_pod_from_being_scheduled_explains_nothing_once_it_is() -> None:
    scheduled = true("PodScheduled", lastTransitionTime="2030-01-01T00:00:10Z")
    one = pod(conditions=[scheduled], containerStatuses=[container(waiting={})])

    assert latest_warning(one, [event("FailedScheduling", 5)]) is None
    assert latest_warning(one, [event("FailedMount", 11)])


# Texts


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ({}, 'pod "api-1" is Pending'),
        (
            {"phase": "Running", "containerStatuses": [container(1, running={})]},
            'pod "api-1" is Running, container "main" runs but is not ready after 1 restart',
        ),
        (
            {"containerStatuses": [container(waiting={"reason": "ContainerCreating"})]},
            'pod "api-1" is Pending, container "main" waits: ContainerCreating',
        ),
        (
            {"phase": "Failed", "containerStatuses": [container(0, **ended(3))]},
            'pod "api-1" is Failed, container "main" ended: Error, exit code 3',
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "low on disk"},
            'pod "api-1" is Failed, Evicted: low on disk',
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False",
                             "reason": "SchedulingGated", "message": ""}]},
            'pod "api-1" is Pending, SchedulingGated',
        ),
        (
            {"phase": "Running", "containerStatuses": [{**container(running={}), "ready": True}],
             "initContainerStatuses": [container(0, **ended(0, "Completed"))]},
            'pod "api-1" is Running',
        ),
    ],
)  # fmt: skip
def test_a_pod_is_described_by_what_it_lacks(status: dict[str, Any], text: str) -> None:
    assert describe_pod(pod(**status)) == text


def test_a_short_cause_has_six_lines_at_most() -> None:
    cause = Cause(
        object='Deployment "api"',
        pod="api-1",
        container="main",
        reason="Error",
        message="exit code 1",
        event="Unhealthy: probe failed",
        log=tuple(f"line {number}" for number in range(50)),
    )

    assert cause.short().splitlines() == [
        'Deployment "api" cannot become ready: container "main" of pod "api-1": Error',
        "  exit code 1",
        "  event: Unhealthy: probe failed",
        "  | line 47",
        "  | line 48",
        "  | line 49",
    ]


def test_a_full_cause_has_twenty_log_lines_at_most() -> None:
    log = tuple(f"line {number}" for number in range(50))
    cause = Cause(object='Job "a"', namespace="ns", pod="a-1", reason="Evicted", log=log)

    lines = cause.full().splitlines()

    assert lines[:2] == ['Job "a" cannot become ready: pod "a-1": Evicted', "  last log lines:"]
    assert lines[2:-1] == [f"    line {number}" for number in range(30, 50)]
    assert lines[-1] == (
        "  to inspect it: --kindinfra-keep=on-failure, then kubectl --namespace ns describe pod a-1"
    )


def test_an_event_that_repeats_the_message_is_left_out() -> None:
    cause = Cause(object="x", reason="FailedMount", message="no such", event="FailedMount: no such")

    assert "event" not in cause.short()


def test_an_event_that_says_the_same_in_other_words_is_left_out() -> None:
    why = 'failed to do request: Head "https://x.io/v2/x/manifests/1": dial tcp: no such host'
    cause = Cause(
        object="x",
        reason="ImagePullBackOff",
        message=f'Back-off pulling image "x.io/x:1": ErrImagePull: {why}',
        event=f'Failed: Failed to pull image "x.io/x:1": {why}',
    )

    assert "event" not in cause.short()


def test_long_lines_are_cut() -> None:
    cause = Cause(object="x", reason="Error", message="word " * 500, log=("y" * 5000,))

    assert max(map(len, cause.short().splitlines())) <= 304

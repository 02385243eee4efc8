"""Every cause of failure that we name, made to happen on a real cluster, side by side."""

from __future__ import annotations

import os
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube.reasons import reasons_seen
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.system.timeline import Deadline, monotonic, now, wait_until
from tests.e2e.kube.objects import (
    bare_pod,
    claim,
    config_map,
    container,
    daemon_set,
    deployment,
    job,
    mount,
    probe,
    replica_set,
    stateful_set,
)

pytestmark = pytest.mark.alone  # seconds from cause to error are looked at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject

LIMIT = 55.0
SHORT_PATIENCE = 6.0
"""Of the broken services: their troubles are of a kind that may pass, but these do not."""
LATE = 14.0


@dataclass
class Case:
    """A broken service: what it is, and what is to be said of it.

    Attributes:
        objects: Applied in this order; the last one is broken.
        reason: One of these words.
        says: Parts of the error.
        within: Seconds from the moment at which the API server knew of it, which it tells in
            whole seconds, to the error, grace included; more where the machine is busy.
        restarts: Those that are allowed.
        patience: Seconds for what may pass.
        told: When the error came, in seconds since the epoch.
        error: The error.
        happened: When the API server knew of the cause.
    """

    objects: list[KubeObject]
    reason: str
    says: list[str]
    within: float = 8.0
    restarts: int = 0
    patience: float = SHORT_PATIENCE
    told: float = 0.0
    error: ServiceFailedError | None = None
    happened: float = 0.0


def broken_services(image: str) -> dict[str, Case]:
    fine = container(image, "sleep 1000")
    absent = {"image": "none:1", "imagePullPolicy": "Never"}
    crash = container(image, "echo about to fail; echo bad password >&2; exit 3")
    # With a probe, so that not even for a moment one of them counts as ready.
    never = {"readinessProbe": {"exec": {"command": ["false"]}}}
    crashing = {**crash, **never}
    secret = {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}
    mounted = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volume = {"volumes": [{"name": "v", "configMap": {"name": "nowhere"}}]}
    big = {"resources": {"requests": {"cpu": "500"}}}
    small = {"resources": {"limits": {"memory": "16Mi"}}}
    eater = "x=0123456789abcdef; while true; do x=$x$x; done"
    dead = probe("echo still asleep; exit 1", failureThreshold=1)
    late = job("late", containers=[fine])
    late["spec"]["activeDeadlineSeconds"] = 2
    return {
        "never": Case(
            [deployment("never", containers=[{**fine, **absent}])],
            "ErrImageNeverPull", ['container "main"', "none:1"]),
        "pull": Case(
            [deployment("pull", containers=[{**fine, "image": "127.0.0.1:1/none:1"}])],
            "ErrImagePull",
            ["127.0.0.1:1/none:1", "connection refused", "nothing listens", "`patience = 6`"],
            within=LATE),
        "name": Case(
            [deployment("name", containers=[{**fine, "image": "UPPER:1"}])],
            "InvalidImageName", ["UPPER:1"]),
        "config": Case(
            [deployment("config", containers=[{**fine, **secret}])],
            "CreateContainerConfigError", ['secret "no" not found', "`patience = 6`"],
            within=LATE),
        "command": Case(
            [deployment("command", containers=[{**fine, "command": ["/no/such"]}])],
            "RunContainerError|StartError", ["/no/such"], restarts=2),
        "crash": Case(
            [deployment("crash", containers=[crashing])],
            "Error", ["exit code 3", "bad password"]),
        "crashloop": Case(
            [deployment("crashloop", containers=[crashing])],
            "CrashLoopBackOff|Error", ["exit code 3, after 1 restart", "bad password"],
            restarts=1),
        "memory": Case(
            [deployment("memory", containers=[container(image, eater, **small, **never)])],
            # Under cgroup v1 the engine does not always see that it was the memory.
            "OOMKilled|Error", ["exit code 137"]),
        "init": Case(
            [deployment("init", containers=[fine], initContainers=[{**crash, "name": "first"}])],
            "Error", ['container "first"', "bad password"]),
        "job": Case(
            [job("job", containers=[crash])],
            "Error", ['Job "job"', "exit code 3", "bad password"]),
        "pod": Case(
            [bare_pod("pod", containers=[crashing], restartPolicy="Never")],
            "Error", ['Pod "pod"', "exit code 3", "bad password"]),
        "stateful": Case(
            [stateful_set("stateful", containers=[crashing])],
            "Error", ['StatefulSet "stateful"', "bad password"]),
        "cpu": Case(
            [deployment("cpu", containers=[{**fine, **big}])],
            "Unschedulable", ["Insufficient cpu"], within=LATE),
        "mount": Case(
            [deployment("mount", containers=[{**fine, **mounted}], **volume)],
            "FailedMount", ['configmap "nowhere" not found'], within=LATE),
        "daemon": Case(
            [daemon_set("daemon", containers=[crashing])],
            "Error", ['DaemonSet "daemon"', "bad password"]),
        "replicas": Case(
            [replica_set("replicas", containers=[crashing])],
            "Error", ['ReplicaSet "replicas"', "bad password"]),
        "job-late": Case(
            [late],
            "DeadlineExceeded", ['Job "late"', "longer than specified deadline"]),
        "startup": Case(
            [deployment("startup", containers=[{**fine, "startupProbe": dead}])],
            "Error|CrashLoopBackOff", ["exit code 137", "Startup probe failed: still asleep"]),
        "claim": Case(
            [claim("unbound", storageClassName="nope"),
             deployment("claim", containers=[{**fine, **mounted}], **mount("unbound"))],
            "ProvisioningFailed", ['storageclass.storage.k8s.io "nope" not found'], within=LATE),
        "secured": Case(
            [deployment("secured", containers=[fine])],
            "FailedCreate", ['violates PodSecurity "restricted:latest"']),
        "quota": Case(
            [deployment("quota", containers=[fine])],
            "FailedCreate", ["exceeded quota"], within=LATE),
        "quota-stateful": Case(
            [stateful_set("quota-stateful", containers=[fine])],
            "FailedCreate", ["exceeded quota"], within=LATE),
        "sidecar": Case(
            [deployment("sidecar", containers=[fine], initContainers=[
                {**crash, "name": "side", "restartPolicy": "Always"}])],
            "Error|CrashLoopBackOff",
            ['container "side"', "exit code 3", "bad password"], restarts=1),
        "sidecar-quits": Case(
            [deployment("sidecar-quits", containers=[fine], initContainers=[
                {**container(image, "echo no more; exit 0"), "name": "side",
                 "restartPolicy": "Always"}])],
            "Completed", ['container "side"', "exit code 0, after 1 restart", "no more"],
            restarts=1),
    }  # fmt: skip


def happened(kube: Kube, namespace: str, case: Case) -> float:
    """Return since when the API server knew of the cause.

    What a kubelet takes to tell it, on a machine that is busy, is left out.
    """
    assert case.error
    assert case.error.cause
    cause, broken = case.error.cause, case.objects[-1]
    if cause.reason in reasons_seen("event"):
        events = kube.events(namespace)
        told = [one for one in events if one["reason"] == cause.reason and about(one, broken)]
        return min(_seconds(one["firstTimestamp"] or one["eventTime"]) for one in told)
    path = f"/api/v1/namespaces/{namespace}/pods/{cause.pod}"
    found = kube.get(path if cause.pod else kube.path_of(broken, namespace=namespace))
    assert found
    fields = found["metadata"]["managedFields"]
    return max(_seconds(one["time"]) for one in fields if one.get("subresource") == "status")


def about(event: KubeObject, broken: KubeObject) -> bool:
    """Whether an event is about a broken object, its pods or its claim."""
    name = broken["metadata"]["name"]
    return bool(re.fullmatch(f"({name}|unbound)(-.*)?", event["involvedObject"]["name"]))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


NAMES = sorted(broken_services(""))


@pytest.fixture(scope="module")
def namespaces(real_kube: Kube) -> Iterator[tuple[str, str, str]]:
    """Three namespaces: as they come, with a quota that allows no pod, for restricted pods only."""
    stem = f"causes-{uuid.uuid4().hex[:6]}"
    names = (stem, f"{stem}-quota", f"{stem}-secured")
    for name in names:
        secured = name.endswith("secured")
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if secured else {}
        real_kube.ensure_namespace(name, Deadline.after(30), {"kindinfra/tests": "kube", **labels})
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
             "spec": {"hard": {"pods": "0"}}}  # fmt: skip
    real_kube.apply(quota, namespace=names[1], deadline=Deadline.after(10))
    yield names
    for name in names:
        real_kube.delete_namespace(name)


@pytest.fixture(scope="module")
def cases(real_kube: Kube, shell_image: str, namespaces: tuple[str, str, str]) -> dict[str, Case]:
    """All broken services, deployed at once, each with what came of it."""
    found = broken_services(shell_image)

    def deploy(name: str) -> None:
        case = found[name]
        namespace = namespaces[{"quota": 1, "secured": 2}.get(name.partition("-")[0], 0)]
        try:
            for obj in case.objects:
                real_kube.apply(obj, namespace=namespace, deadline=Deadline.after(LIMIT))
            real_kube.wait_ready(
                case.objects,
                namespace=namespace,
                deadline=Deadline.after(LIMIT),
                restarts=case.restarts,
                patience=case.patience,
            )
        except ServiceFailedError as error:
            case.told, case.error = now(), error
            case.happened = happened(real_kube, namespace, case)

    with ThreadPoolExecutor(len(found)) as pool:
        list(pool.map(deploy, found))
    return found


def busy() -> float:
    """Return how many times more than two programs want each core; 1 where it is quiet."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_service_is_told_with_its_cause_and_in_time(
    cases: dict[str, Case], name: str
) -> None:
    case = cases[name]
    assert case.error is not None
    assert case.error.cause is not None, str(case.error)
    seconds = case.told - case.happened
    print(f"{name}: {seconds:.1f} s\n{case.error.short}\n\n{case.error}")  # noqa: T201
    assert case.error.cause.reason in case.reason.split("|")
    assert [text for text in case.says if text not in str(case.error)] == []
    assert 0 <= seconds < case.within * busy()
    assert len(case.error.short.splitlines()) <= 6


def test_other_broken_pods_do_not_keep_a_service_from_being_ready(
    real_kube: Kube, cases: dict[str, Case], namespaces: tuple[str, str, str], shell_image: str
) -> None:
    assert cases
    fine = deployment("fine", containers=[container(shell_image, "sleep 1000")])
    real_kube.apply(fine, namespace=namespaces[0], deadline=Deadline.after(10))

    real_kube.wait_ready([fine], namespace=namespaces[0], deadline=Deadline.after(20), restarts=0)


def test_a_corrected_service_is_not_judged_by_its_old_pods(
    real_kube: Kube, cases: dict[str, Case], namespaces: tuple[str, str, str], shell_image: str
) -> None:
    assert cases["crash"].error
    mended = deployment("crash", containers=[container(shell_image, "sleep 1000")])
    real_kube.apply(mended, namespace=namespaces[0], deadline=Deadline.after(10))

    real_kube.wait_ready([mended], namespace=namespaces[0], deadline=Deadline.after(20), restarts=0)


def test_a_container_without_a_probe_that_ends_at_once_is_not_taken_for_ready(
    real_kube: Kube, cases: dict[str, Case], namespaces: tuple[str, str, str], shell_image: str
) -> None:
    assert cases
    brief = deployment("brief", containers=[container(shell_image, "exit 4")])
    real_kube.apply(brief, namespace=namespaces[0], deadline=Deadline.after(10))

    with pytest.raises(ServiceFailedError, match="exit code 4"):
        real_kube.wait_ready(
            [brief], namespace=namespaces[0], deadline=Deadline.after(20), restarts=0
        )


def test_a_pod_that_backs_off_from_pulling_already_is_told_by_that_name(
    real_kube: Kube, namespaces: tuple[str, str, str]
) -> None:
    late = deployment("late", containers=[{"name": "main", "image": "localhost:1/none:1"}])
    real_kube.apply(late, namespace=namespaces[0], deadline=Deadline.after(10))
    waiting = "ImagePullBackOff"
    assert wait_until(
        lambda: waiting in str(pods_of(real_kube, namespaces[0], "late")),
        Deadline.after(40),
        every=0.2,
    )

    with pytest.raises(ServiceFailedError, match=waiting):
        real_kube.wait_ready(
            [late], namespace=namespaces[0], deadline=Deadline.after(20), restarts=0, patience=0
        )


@pytest.fixture
def scratch(real_kube: Kube) -> Iterator[str]:
    """A namespace for one test."""
    name = f"passing-{uuid.uuid4().hex[:6]}"
    real_kube.ensure_namespace(name, Deadline.after(30), {"kindinfra/tests": "kube"})
    yield name
    real_kube.delete_namespace(name)


def await_all(kube: Kube, namespace: str, *objects: KubeObject, seconds: float = 90) -> list[str]:
    """Apply objects, wait until they are ready, and return what was said meanwhile."""
    said: list[str] = []
    for obj in objects:
        kube.apply(obj, namespace=namespace, deadline=Deadline.after(10))
    kube.wait_ready(objects, namespace=namespace, deadline=Deadline.after(seconds), restarts=0,
                    notice=said.append)  # fmt: skip
    return said


def test_a_secret_that_comes_later_is_waited_for_whether_read_or_mounted(
    real_kube: Kube, scratch: str, shell_image: str
) -> None:
    read = {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]}
    main = container(shell_image, "sleep 1000")
    mounted = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volume = {"volumes": [{"name": "v", "secret": {"secretName": "late"}}]}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"},
              "stringData": {"k": "v"}}  # fmt: skip
    # As a Job or an operator makes it; the tries of a mount lie at 7.5, 15.5 and 31.5 s.
    come = threading.Timer(
        16, lambda: real_kube.apply(secret, namespace=scratch, deadline=Deadline.after(10))
    )
    come.start()

    said = await_all(
        real_kube, scratch,
        deployment("read", containers=[{**main, **read}]),
        deployment("mounting", containers=[{**main, **mounted}], **volume),
    )  # fmt: skip

    come.join()
    assert any('secret "late" not found' in line for line in said)


def test_a_processor_that_a_job_gives_back_is_waited_for(
    real_kube: Kube, scratch: str, shell_image: str
) -> None:
    [node] = real_kube.list_("/api/v1/nodes")
    most = {"resources": {"requests": {"cpu": f"{0.5 * float(node['status']['capacity']['cpu'])}"}}}
    busy = job("busy", containers=[{**container(shell_image, "sleep 12"), **most}])
    real_kube.apply(busy, namespace=scratch, deadline=Deadline.after(10))
    assert wait_until(
        lambda: "Running" in str(pods_of(real_kube, scratch, "busy")), Deadline.after(30), every=0.2
    )
    waiting = deployment("waiting", containers=[{**container(shell_image, "sleep 1000"), **most}])
    real_kube.apply(waiting, namespace=scratch, deadline=Deadline.after(10))

    real_kube.wait_ready(
        [waiting], namespace=scratch, deadline=Deadline.after(60), restarts=0, patience=5
    )


def test_a_job_fails_as_often_as_it_says_itself(
    real_kube: Kube, scratch: str, shell_image: str
) -> None:
    seen = {"volumes": [{"name": "v", "hostPath": {"path": f"/var/lib/{scratch}",
                                                   "type": "DirectoryOrCreate"}}]}  # fmt: skip
    mount_seen = {"volumeMounts": [{"name": "v", "mountPath": "/seen"}]}
    half = "test $((JOB_COMPLETION_INDEX % 2)) = 1 || ! mkdir /seen/$JOB_COMPLETION_INDEX"
    indexed = job("indexed", containers=[{**container(shell_image, half), **mount_seen}], **seen)
    indexed["spec"] |= {"completionMode": "Indexed", "completions": 6, "parallelism": 6,
                        "backoffLimitPerIndex": 1}  # fmt: skip
    del indexed["spec"]["backoffLimit"]
    fourth = "for n in 1 2 3; do mkdir /seen/try$n 2>/dev/null && exit 1; done; exit 0"
    trying = job("trying", containers=[{**container(shell_image, fourth), **mount_seen}], **seen)
    trying["spec"]["backoffLimit"] = 6

    await_all(real_kube, scratch, indexed, trying, seconds=150)

    done = [real_kube.get(real_kube.path_of(one, namespace=scratch)) for one in (indexed, trying)]
    assert [one["status"]["failed"] for one in done if one] == [3, 3]


def test_a_sidecar_is_awaited_and_ended_by_its_own_rule(
    real_kube: Kube, scratch: str, shell_image: str
) -> None:
    slow = container(
        shell_image, "sleep 3; touch /tmp/up; sleep 1000",
        startupProbe=probe("test -e /tmp/up", failureThreshold=30),
    )  # fmt: skip
    side = {**slow, "name": "side", "restartPolicy": "Always"}
    endless = {**container(shell_image, "sleep 1000"), "name": "side", "restartPolicy": "Always"}
    work = job("work", containers=[container(shell_image, "echo done")], initContainers=[endless])
    web = deployment(
        "web", containers=[container(shell_image, "sleep 1000")], initContainers=[side]
    )

    await_all(real_kube, scratch, web, work)

    [pod] = pods_of(real_kube, scratch, "web")
    assert pod["status"]["initContainerStatuses"][0]["started"]


def test_crashes_that_a_need_explains_are_not_counted(
    real_kube: Kube, namespaces: tuple[str, str, str], shell_image: str
) -> None:
    key = {"name": "need", "key": "there", "optional": True}
    main = container(
        shell_image,
        'test "$NEED" || exit 7; sleep 1000',
        env=[{"name": "NEED", "valueFrom": {"configMapKeyRef": key}}],
        readinessProbe=probe("true"),
    )
    hasty = deployment("hasty", containers=[main])
    came: list[float] = []
    real_kube.apply(hasty, namespace=namespaces[0], deadline=Deadline.after(10))

    def excused() -> bool:
        """Have the need come once it has crashed twice, and is not to start for ten seconds."""
        crashed = "CrashLoopBackOff" in str(pods_of(real_kube, namespaces[0], "hasty"))
        if crashed and not came:
            need = config_map("need", there="yes")
            real_kube.apply(need, namespace=namespaces[0], deadline=Deadline.after(10))
            came.append(monotonic())
        return not came or monotonic() - came[0] < 3  # the watch of pods may see it later

    real_kube.wait_ready(
        [hasty],
        namespace=namespaces[0],
        deadline=Deadline.after(60),
        restarts=0,
        excused=excused,
    )

    (pod,) = pods_of(real_kube, namespaces[0], "hasty")
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1


def pods_of(kube: Kube, namespace: str, app: str) -> list[KubeObject]:
    return kube.list_(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={app}")


def test_what_was_missing_is_said_when_the_time_is_up(
    real_kube: Kube, namespaces: tuple[str, str, str], shell_image: str
) -> None:
    never = probe("echo still loading; exit 1")
    slow = deployment(
        "slow", containers=[container(shell_image, "echo hello; sleep 1000", readinessProbe=never)]
    )
    real_kube.apply(slow, namespace=namespaces[0], deadline=Deadline.after(10))

    with pytest.raises(ServiceFailedError) as caught:
        real_kube.wait_ready(
            [slow], namespace=namespaces[0], deadline=Deadline.after(6), restarts=0
        )

    text = re.sub(r"slow-[a-z0-9]+-[a-z0-9]+", "slow-POD", str(caught.value))
    assert text == (
        "not ready within the time limit:\n"
        '    Deployment "slow": 0 of 1 pods available\n'
        '    pod "slow-POD" is Running, container "main" runs but is not ready\n'
        "      event: Unhealthy: Readiness probe failed: still loading\n"
        '      last log lines of container "main":\n'
        "        hello"
    )
    assert len(caught.value.short.splitlines()) == 4

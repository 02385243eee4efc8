"""Every cause of failure that we name, made to happen on a real cluster, side by side."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube import Kube, ServiceFailedError
from pytest_kindinfra.timeline import Deadline, monotonic

pytestmark = pytest.mark.alone  # seconds from cause to error are looked at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.model import KubeObject

LIMIT = 55.0


@dataclass
class Case:
    """A broken service: what it is, and what is to be said of it."""

    objects: list[KubeObject]
    reason: str
    says: list[str]
    within: float
    restarts: int = 0
    seconds: float = 0.0
    error: ServiceFailedError | None = None


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def container(image: str, script: str, **more: Any) -> dict[str, Any]:
    return {"name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
            "command": shell(script), **more}  # fmt: skip


def template(name: str, pod: dict[str, Any]) -> dict[str, Any]:
    spec = {"terminationGracePeriodSeconds": 0, **pod}
    return {"metadata": {"labels": {"app": name}}, "spec": spec}


def deployment(name: str, **pod: Any) -> KubeObject:
    spec = {"selector": {"matchLabels": {"app": name}}, "template": template(name, pod)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def stateful_set(name: str, **pod: Any) -> KubeObject:
    made = deployment(name, **pod)
    return {**made, "kind": "StatefulSet", "spec": {**made["spec"], "serviceName": name}}


def job(name: str, **pod: Any) -> KubeObject:
    spec = {"backoffLimit": 0, "template": template(name, {"restartPolicy": "Never", **pod})}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def bare_pod(name: str, **pod: Any) -> KubeObject:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": template(name, pod)["spec"]}  # fmt: skip


def broken_services(image: str) -> dict[str, Case]:
    fine = container(image, "sleep 1000")
    absent = {"image": "none:1", "imagePullPolicy": "Never"}
    crash = container(image, "echo about to fail; echo bad password >&2; exit 3")
    # With a probe, so that not even for a moment one of them counts as ready.
    probe = {"readinessProbe": {"exec": {"command": ["false"]}}}
    crashing = {**crash, **probe}
    secret = {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}
    mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volume = {"volumes": [{"name": "v", "configMap": {"name": "nowhere"}}]}
    big = {"resources": {"requests": {"cpu": "500"}}}
    small = {"resources": {"limits": {"memory": "16Mi"}}}
    eater = "x=0123456789abcdef; while true; do x=$x$x; done"
    return {
        "never": Case(
            [deployment("never", containers=[{**fine, **absent}])],
            "ErrImageNeverPull", ['container "main"', "none:1"], 15),
        "pull": Case(
            [deployment("pull", containers=[{**fine, "image": "127.0.0.1:1/none:1"}])],
            "ErrImagePull", ["127.0.0.1:1/none:1"], 15),
        "name": Case(
            [deployment("name", containers=[{**fine, "image": "UPPER:1"}])],
            "InvalidImageName", ["UPPER:1"], 15),
        "config": Case(
            [deployment("config", containers=[{**fine, **secret}])],
            "CreateContainerConfigError", ['secret "no" not found'], 15),
        "command": Case(
            [deployment("command", containers=[{**fine, "command": ["/no/such"]}])],
            "RunContainerError", ["/no/such"], 20, restarts=2),
        "crash": Case(
            [deployment("crash", containers=[crashing])],
            "Error", ["exit code 3", "bad password"], 15),
        "crashloop": Case(
            [deployment("crashloop", containers=[crashing])],
            "CrashLoopBackOff|Error", ["exit code 3, after 1 restart", "bad password"], 20,
            restarts=1),
        "memory": Case(
            [deployment("memory", containers=[container(image, eater, **small, **probe)])],
            # Under cgroup v1 the engine does not always see that it was the memory.
            "OOMKilled|Error", ["exit code 137"], 25),
        "init": Case(
            [deployment("init", containers=[fine], initContainers=[{**crash, "name": "first"}])],
            "Error", ['container "first"', "bad password"], 15),
        "job": Case(
            [job("job", containers=[crash])],
            "Error", ['Job "job"', "exit code 3", "bad password"], 15),
        "pod": Case(
            [bare_pod("pod", containers=[crashing], restartPolicy="Never")],
            "Error", ['Pod "pod"', "exit code 3", "bad password"], 15),
        "stateful": Case(
            [stateful_set("stateful", containers=[crashing])],
            "Error", ['StatefulSet "stateful"', "bad password"], 15),
        "cpu": Case(
            [deployment("cpu", containers=[{**fine, **big}])],
            "Unschedulable", ["Insufficient cpu"], 14),
        "mount": Case(
            [deployment("mount", containers=[{**fine, **mount}], **volume)],
            "FailedMount", ['configmap "nowhere" not found'], 20),
        "quota": Case(
            [deployment("quota", containers=[fine])],
            "FailedCreate", ["exceeded quota"], 6),
        "quota-stateful": Case(
            [stateful_set("quota-stateful", containers=[fine])],
            "FailedCreate", ["exceeded quota"], 8),
    }  # fmt: skip


NAMES = sorted(broken_services(""))


@pytest.fixture(scope="module")
def namespaces(real_kube: Kube) -> Iterator[tuple[str, str]]:
    """One namespace without and one with a quota that allows no pod."""
    stem = f"causes-{uuid.uuid4().hex[:6]}"
    names = (stem, f"{stem}-quota")
    for name in names:
        real_kube.ensure_namespace(name, Deadline.after(30), {"kindinfra/tests": "kube"})
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
             "spec": {"hard": {"pods": "0"}}}  # fmt: skip
    real_kube.apply(quota, namespace=names[1], deadline=Deadline.after(10))
    yield names
    for name in names:
        real_kube.delete_namespace(name)


@pytest.fixture(scope="module")
def cases(real_kube: Kube, shell_image: str, namespaces: tuple[str, str]) -> dict[str, Case]:
    """All broken services, deployed at once, each with what came of it."""
    found = broken_services(shell_image)

    def deploy(name: str) -> None:
        case, namespace = found[name], namespaces[name.startswith("quota")]
        start = monotonic()
        try:
            for obj in case.objects:
                real_kube.apply(obj, namespace=namespace, deadline=Deadline.after(LIMIT))
            real_kube.wait_ready(
                case.objects,
                namespace=namespace,
                deadline=Deadline.after(LIMIT),
                restarts=case.restarts,
            )
        except ServiceFailedError as error:
            case.error = error
        case.seconds = monotonic() - start

    with ThreadPoolExecutor(len(found)) as pool:
        list(pool.map(deploy, found))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_service_is_told_with_its_cause_and_in_time(
    cases: dict[str, Case], name: str
) -> None:
    case = cases[name]
    assert case.error is not None
    assert case.error.cause is not None, str(case.error)
    print(f"{case.seconds:.1f} s\n{case.error.short}\n\n{case.error}")  # noqa: T201
    assert case.error.cause.reason in case.reason.split("|")
    assert [text for text in case.says if text not in str(case.error)] == []
    assert case.seconds < case.within
    assert len(case.error.short.splitlines()) <= 6


def test_other_broken_pods_do_not_keep_a_service_from_being_ready(
    real_kube: Kube, cases: dict[str, Case], namespaces: tuple[str, str], shell_image: str
) -> None:
    assert cases
    fine = deployment("fine", containers=[container(shell_image, "sleep 1000")])
    real_kube.apply(fine, namespace=namespaces[0], deadline=Deadline.after(10))

    real_kube.wait_ready([fine], namespace=namespaces[0], deadline=Deadline.after(20), restarts=0)


def test_a_corrected_service_is_not_judged_by_its_old_pods(
    real_kube: Kube, cases: dict[str, Case], namespaces: tuple[str, str], shell_image: str
) -> None:
    assert cases["crash"].error
    mended = deployment("crash", containers=[container(shell_image, "sleep 1000")])
    real_kube.apply(mended, namespace=namespaces[0], deadline=Deadline.after(10))

    real_kube.wait_ready([mended], namespace=namespaces[0], deadline=Deadline.after(20), restarts=0)


def test_a_container_without_a_probe_that_ends_at_once_is_not_taken_for_ready(
    real_kube: Kube, cases: dict[str, Case], namespaces: tuple[str, str], shell_image: str
) -> None:
    assert cases
    brief = deployment("brief", containers=[container(shell_image, "exit 4")])
    real_kube.apply(brief, namespace=namespaces[0], deadline=Deadline.after(10))

    with pytest.raises(ServiceFailedError, match="exit code 4"):
        real_kube.wait_ready(
            [brief], namespace=namespaces[0], deadline=Deadline.after(20), restarts=0
        )


def test_what_was_missing_is_said_when_the_time_is_up(
    real_kube: Kube, namespaces: tuple[str, str], shell_image: str
) -> None:
    probe = {"exec": {"command": shell("echo still loading; exit 1")}, "periodSeconds": 1}
    slow = deployment(
        "slow", containers=[container(shell_image, "echo hello; sleep 1000", readinessProbe=probe)]
    )
    real_kube.apply(slow, namespace=namespaces[0], deadline=Deadline.after(10))

    with pytest.raises(ServiceFailedError) as caught:
        real_kube.wait_ready(
            [slow], namespace=namespaces[0], deadline=Deadline.after(6), restarts=0
        )

    text = str(caught.value)
    assert 'Deployment "slow": 0 of 1 pods available' in text
    assert 'container "main" runs but is not ready' in text
    assert "still loading" in text
    assert "hello" in text

"""Waiting for readiness: it ends with the cause, and never with somebody else's."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import CancelledError
from pytest_kindinfra.kube import reasons
from pytest_kindinfra.kube import wait as ready
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.readiness import rules_of
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.system.timeline import Deadline, monotonic
from tests.unit.kube.objects import config_map, crd, gadget, workload

if TYPE_CHECKING:
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject, Level
    from tests.fake_kubernetes import FakeKubernetes

NO_IMAGE = {"state": {"waiting": {"reason": "ErrImagePull", "message": "api: not found"}}}
CRASHED = {
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
    "restartCount": 2,
}


def deploy(kube: Kube, *objects: KubeObject) -> None:
    for obj in objects:
        kube.apply(obj, namespace="default", deadline=Deadline.after(60))


def wait(
    kube: Kube,
    *objects: KubeObject,
    seconds: float = 5,
    restarts: int = 2,
    level: Level = "ready",
    **more: Any,
) -> None:
    kube.wait_ready(
        objects,
        namespace="default",
        deadline=Deadline.after(seconds),
        restarts=restarts,
        level=level,
        settle=0,
        **more,
    )


def failure(kube: Kube, *objects: KubeObject, **how: Any) -> ServiceFailedError:
    with pytest.raises(ServiceFailedError) as caught:
        wait(kube, *objects, **how)
    return caught.value


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job"])
@pytest.mark.parametrize("level", ["ready", "started"])
def test_it_returns_when_the_object_is_ready(kube: Kube, kind: str, level: Level) -> None:
    deploy(kube, workload(kind))

    wait(kube, workload(kind), level=level)


def test_what_pods_are_at_is_told_while_they_do_not_run(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["api"] = {
        "state": {"waiting": {"reason": "ContainerCreating"}}, "ready": False, "restartCount": 0,
    }  # fmt: skip
    deploy(kube, workload())
    stages: list[str] = []

    with pytest.raises(ServiceFailedError):
        wait(kube, workload(), seconds=0.5, stage=stages.append)

    assert stages[-1] == "Pending, ContainerCreating"


def test_objects_that_only_need_to_be_there_are_not_asked_for(
    kube: Kube, fake: FakeKubernetes
) -> None:
    wait(kube, config_map())
    wait(kube, workload(), level="applied")

    assert fake.requests == []


def test_a_cause_ends_the_wait_with_its_evidence(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["api"] = CRASHED
    fake.logs["api"] = "starting\nbad password\n"
    deploy(kube, workload())

    error = failure(kube, workload())

    what = 'Deployment "api" cannot become ready: container "main" of pod "api-1-0"'
    assert error.short == (
        f"{what}: CrashLoopBackOff\n  exit code 3, after 2 restarts\n  | starting\n  | bad password"
    )
    assert str(error) == (
        f"{what}: CrashLoopBackOff\n"
        "  exit code 3, after 2 restarts\n"
        "  last log lines:\n"
        "    starting\n"
        "    bad password\n"
        "  to inspect it: --kindinfra-keep=on-failure, "
        "then kubectl --namespace default describe pod api-1-0\n"
        "  To fix: see the log; `restarts = N` of the service allows more restarts."
    )


def test_a_log_that_the_kubelet_has_lost_is_left_out(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["api"] = CRASHED
    fake.logs["api"] = "unable to retrieve container logs for containerd://982c1fc598"
    deploy(kube, workload())

    assert "containerd" not in str(failure(kube, workload()))


def test_restarts_that_are_allowed_are_no_cause(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["api"] = CRASHED
    deploy(kube, workload())

    assert failure(kube, workload(), restarts=3, seconds=0.3).cause is None


def test_pods_of_others_are_never_a_cause(kube: Kube, fake: FakeKubernetes) -> None:
    fake.ready_after = 0.2
    fake.breaks["other"] = NO_IMAGE
    deploy(kube, workload(name="other"), workload())

    wait(kube, workload())


def test_pods_of_an_older_revision_are_no_cause(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["api"] = NO_IMAGE
    deploy(kube, workload())
    assert failure(kube, workload()).cause

    del fake.breaks["api"]
    deploy(kube, workload(replicas=2))

    wait(kube, workload(replicas=2))


def test_a_broken_pod_that_keeps_a_stateful_set_from_its_update_is_deleted(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["db"] = NO_IMAGE
    deploy(kube, workload("StatefulSet", "db"))
    assert failure(kube, workload("StatefulSet", "db")).cause
    stored = fake.objects["/apis/apps/v1/namespaces/default/statefulsets/db"]
    stored["status"] |= {"currentRevision": "a", "updateRevision": "b"}

    failure(kube, workload("StatefulSet", "db"), seconds=0.2)

    assert fake.pods_of("db") == []


def test_what_is_missing_is_said_when_the_time_is_up(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["api"] = {"state": {"running": {}}, "ready": False, "restartCount": 0}
    fake.logs["api"] = "loading\n"
    deploy(kube, workload())
    wait_for_running = failure(kube, workload(), seconds=0.2)
    fake.event(fake.pods_of("api")[0], "Unhealthy", "Readiness probe failed: 503")

    error = failure(kube, workload(), workload(name="gone"), seconds=0.2)

    assert wait_for_running.cause is None
    assert str(error) == (
        "not ready within the time limit:\n"
        '    Deployment "api": 0 of 1 pods made\n'
        '    pod "api-1-0" is Running, container "main" runs but is not ready\n'
        "      event: Unhealthy: Readiness probe failed: 503\n"
        '      last log lines of container "main":\n'
        "        loading\n"
        '    Deployment "gone" does not exist'
    )
    assert error.short == (
        "not ready within the time limit:\n"
        '    Deployment "api": 0 of 1 pods made\n'
        '    pod "api-1-0" is Running, container "main" runs but is not ready\n'
        "      event: Unhealthy: Readiness probe failed: 503\n"
        '    Deployment "gone" does not exist'
    )


def test_crashes_that_something_else_explains_are_not_counted_later_either(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = CRASHED
    deploy(kube, workload())
    crashed: list[bool] = []

    def explained() -> bool:
        """Whether the crash was seen twice: a look may have begun before it."""
        pods = kube.watch("default").pods()[1]
        crashed.append(any(pod["status"].get("containerStatuses") for pod in pods))
        return crashed.count(True) < 3

    spared = failure(kube, workload(), restarts=1, excused=explained, seconds=1.5)
    told = failure(kube, workload(), restarts=1)

    assert spared.cause is None, "two restarts, and the crash after them, were explained"
    assert crashed.count(True) >= 3
    assert told.cause


def test_one_crash_too_many_after_what_explained_them_is_a_cause(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = CRASHED
    deploy(kube, workload())

    def explained() -> bool:
        [pod] = fake.pods_of("api")
        if not pod["status"].get("containerStatuses"):
            return True
        [status] = pod["status"]["containerStatuses"]
        before = bool(status["restartCount"] == CRASHED["restartCount"])
        if before and kube.watch("default").pods()[1][0]["status"].get("containerStatuses"):
            fake.put({**pod, "status": {"containerStatuses": [{**status, "restartCount": 4}]}})
        return before

    assert failure(kube, workload(), restarts=1, excused=explained).cause


def deploy_backed(kube: Kube) -> tuple[KubeObject, KubeObject]:
    """Return a k8s service and the Deployment behind it, both ready."""
    web = workload()
    web["spec"]["template"]["metadata"] = {"labels": {"app": "api"}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api"},
               "spec": {"selector": {"app": "api"}}}  # fmt: skip
    deploy(kube, service, web)
    wait(kube, service, web)
    return service, web


def test_a_k8s_service_is_looked_at_as_soon_as_its_pods_makers_are_ready(
    kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, web = deploy_backed(kube)
    monkeypatch.setattr(ready, "FIRST_PAUSE", 60.0)
    start = monotonic()

    wait(kube, service, web, seconds=50)

    assert monotonic() - start < 50


def test_a_k8s_service_is_ready_with_a_pod_behind_it(kube: Kube, fake: FakeKubernetes) -> None:
    service, web = deploy_backed(kube)
    pods = fake.pods_of("api")
    pods[0]["status"]["conditions"] = []

    behind = failure(kube, service, web, seconds=0.2)
    fake.delete(f"/api/v1/namespaces/default/pods/{pods[0]['metadata']['name']}")
    nobody = failure(kube, service, web, seconds=0.2)

    start = "not ready within the time limit:\n    "
    assert str(behind) == f'{start}Service "api": 0 of 1 pods behind it ready'
    assert str(nobody) == f'{start}Service "api": no pod behind it (it selects app=api)'


def test_a_custom_resource_is_ready_by_what_was_declared(kube: Kube, fake: FakeKubernetes) -> None:
    deploy(kube, crd(), gadget())
    rules = rules_of([("Gadget", "condition=Ready")])
    stored = fake.objects["/apis/example.com/v1/namespaces/default/gadgets/one"]

    error = failure(kube, gadget(), rules=rules, seconds=0.2)
    wait(kube, gadget())
    stored["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}
    wait(kube, gadget(), rules=rules)

    lack = "condition Ready is not set yet"
    assert str(error) == f'not ready within the time limit:\n    Gadget "one": {lack}'


def test_a_pod_that_cannot_be_made_is_told_by_its_event(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["db"] = {}
    fake.ready_after = 60
    deploy(kube, workload("StatefulSet", "db", replicas=0))
    stored = fake.objects["/apis/apps/v1/namespaces/default/statefulsets/db"]
    stored["spec"] = {**stored["spec"], "replicas": 1}
    fake.event(stored, "FailedCreate", "exceeded quota")

    error = failure(kube, workload("StatefulSet", "db"), patience=0)

    assert error.short == 'StatefulSet "db" cannot become ready: FailedCreate\n  exceeded quota'


def test_a_server_out_of_breath_is_asked_again(kube: Kube, fake: FakeKubernetes) -> None:
    deploy(kube, workload())
    fake.fail("GET", "/deployments/api", 503, times=2)

    wait(kube, workload())


def test_a_server_that_has_not_read_the_roles_yet_is_asked_again(
    kube: Kube, fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "UNSURE_GRACE", 0.5)
    deploy(kube, workload())
    fake.fail("GET", "/deployments/api", 403, "you may not", times=2)
    wait(kube, workload())
    fake.fail("GET", "/deployments/api", 403, "you may not", times=99)

    with pytest.raises(ApiError, match="you may not"):
        wait(kube, workload())


def test_the_end_of_the_run_ends_the_wait(kube: Kube, fake: FakeKubernetes) -> None:
    fake.ready_after = 60
    deploy(kube, workload())
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    start = monotonic()

    with pytest.raises(CancelledError):
        kube.wait_ready(
            [workload()], namespace="default", deadline=Deadline.after(9, cancelled), restarts=0
        )

    assert monotonic() - start < 8


def test_a_container_without_a_probe_must_stay_up_for_a_moment(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.ready_after = 0.1
    deploy(kube, workload())
    start = monotonic()

    kube.wait_ready(
        [workload()], namespace="default", deadline=Deadline.after(60), restarts=0, settle=2.0
    )
    first = monotonic() - start
    kube.wait_ready(
        [workload()], namespace="default", deadline=Deadline.after(60), restarts=0, settle=2.0
    )

    assert first > 0.4
    assert monotonic() - start - first < first, "what was ready before is not doubted"


def test_what_was_ready_can_be_judged_later(kube: Kube, fake: FakeKubernetes) -> None:
    deploy(kube, workload())
    wait(kube, workload())
    verdict = kube.judge([workload()], namespace="default", restarts=2)
    verdict.check()
    seen, _ = kube.watch("default").pods()
    [pod] = fake.pods_of("api")
    pod["status"]["containerStatuses"] = [{"name": "main", **CRASHED}]
    fake.put(pod)
    kube.watch("default").wait(seen, 5)

    with pytest.raises(ServiceFailedError, match="CrashLoopBackOff"):
        verdict.check()


def waiting_for(reason: str, message: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def test_a_trouble_that_outlives_the_patience_is_told_with_seconds_and_key(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = waiting_for("CreateContainerConfigError", 'secret "late" not found')
    deploy(kube, workload())
    start = monotonic()

    error = failure(kube, workload(), patience=1.2)

    assert monotonic() - start >= 1.2
    assert re.search(r'  secret "late" not found\n  seen for \d+ s', error.short)
    assert "s, the limit of `patience = 1.2`" in error.short
    assert str(error).endswith("; raise `patience` of the service to wait longer.")


def test_a_pull_that_fails_and_backs_off_by_turns_is_waited_for_from_the_first_time_on(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = waiting_for("ErrImagePull", "TLS handshake timeout")
    deploy(kube, workload())

    def turn() -> None:
        [pod] = fake.pods_of("api")
        state = pod["status"].get("containerStatuses", [{}])[0].get("state", {}).get("waiting")
        if state:
            back = state["reason"] == "ErrImagePull"
            state["reason"] = "ImagePullBackOff" if back else "ErrImagePull"
            fake.put(pod)

    error = failure(kube, workload(), patience=0.8, notice=lambda _: turn())

    assert error.cause
    assert error.cause.lasted >= 0.8


def test_a_secret_that_comes_within_the_patience_is_no_failure(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = waiting_for("CreateContainerConfigError", 'secret "late" not found')
    deploy(kube, workload())
    said: list[str] = []

    def come() -> None:
        del fake.breaks["api"]
        deploy(kube, workload(replicas=1))

    threading.Timer(0.5, come).start()
    wait(kube, workload(), patience=5, notice=said.append)

    assert any('CreateContainerConfigError for 0 s: secret "late" not found' in one for one in said)
    assert said[-1] == ""


def test_what_was_still_waited_for_is_said_with_its_remedy_when_the_time_is_up(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = waiting_for("ErrImagePull", "dial tcp: lookup x.io: no such host")
    deploy(kube, workload())

    text = str(failure(kube, workload(), seconds=0.5))

    assert re.search(r"ErrImagePull for \d s: dial tcp: lookup x.io: no such host", text)
    assert "To fix: the kind node cannot resolve the registry's name" in text


def test_a_shortage_is_waited_for_as_long_as_a_job_runs_that_will_end_it(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.ready_after = 60
    deploy(kube, workload(), workload("Job", "busy"))
    [pod], [other] = fake.pods_of("api"), fake.pods_of("busy")
    short = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
             "message": "0/1 nodes are available: 1 Insufficient cpu."}  # fmt: skip
    fake.put({**pod, "status": {"phase": "Pending", "conditions": [short]}})
    other["metadata"]["ownerReferences"][0]["kind"] = "Job"
    running = {**other, "spec": {**other["spec"], "nodeName": "n"}, "status": {"phase": "Running"}}
    fake.put(running)

    spared = failure(kube, workload(), patience=0.1, seconds=1)
    fake.put({**running, "status": {"phase": "Succeeded"}})
    told = failure(kube, workload(), patience=0.1)

    assert spared.cause is None
    assert told.cause
    assert "Insufficient cpu" in str(told)


def test_a_pull_that_backs_off_is_told_with_what_failed_before(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = waiting_for("ErrImagePull", "net/http: TLS handshake timeout")
    deploy(kube, workload())

    def back_off() -> None:
        for pod in fake.pods_of("api"):
            for status in pod["status"].get("containerStatuses", ()):
                status.update(waiting_for("ImagePullBackOff", 'Back-off pulling image "api:1"'))
                fake.put(pod)

    threading.Timer(0.4, back_off).start()
    error = failure(kube, workload(), patience=1)

    assert error.cause
    assert error.cause.reason == "ImagePullBackOff"
    assert "TLS handshake timeout" in error.short
    assert "does not reach the registry" in str(error)


def test_a_claim_that_is_not_bound_is_told_with_the_patience_that_was_declared(
    kube: Kube, fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "CLAIM_GRACE", 0.2)
    fake.ready_after = 60
    deploy(kube, workload())
    [pod] = fake.pods_of("api")
    unbound = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
               "message": "pod has unbound immediate PersistentVolumeClaims"}  # fmt: skip
    fake.put({**pod, "status": {"phase": "Pending", "conditions": [unbound]}})

    assert "patience = 0.3" in str(failure(kube, workload(), patience=0.3))


def test_a_sandbox_that_is_tried_again_and_again_is_one_trouble(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.ready_after = 60
    deploy(kube, workload())
    [pod] = fake.pods_of("api")
    turns = iter(range(1000))

    def turn() -> None:
        failing = next(turns) % 2 == 0
        reason = "FailedCreatePodSandBox" if failing else "SandboxChanged"
        fake.event(pod, reason, "no network", "Warning" if failing else "Normal")

    error = failure(kube, workload(), patience=2, seconds=9, notice=lambda _: turn())

    assert error.cause
    assert error.cause.reason == "FailedCreatePodSandBox"


def test_another_secret_that_is_missing_now_has_a_patience_of_its_own(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.breaks["api"] = waiting_for("CreateContainerConfigError", 'secret "one" not found')
    deploy(kube, workload())

    def come() -> None:
        for pod in fake.pods_of("api"):
            [status] = pod["status"]["containerStatuses"]
            status.update(waiting_for("CreateContainerConfigError", 'secret "two" not found'))
            fake.put(pod)

    threading.Timer(0.7, come).start()
    start = monotonic()
    error = failure(kube, workload(), patience=1)

    assert 'secret "two" not found' in error.short
    assert monotonic() - start >= 1.6


def test_the_time_that_was_up_is_told_with_what_set_it(kube: Kube, fake: FakeKubernetes) -> None:
    fake.breaks["api"] = {"state": {"running": {}}, "ready": False, "restartCount": 0}
    deploy(kube, workload())
    deadline = Deadline.after(0.2, option="timeout of [services.web]")

    with pytest.raises(
        ServiceFailedError, match=r"^not ready within 0\.2 s \(timeout of \[services"
    ):
        kube.wait_ready([workload()], namespace="default", deadline=deadline, restarts=0)

"""Every kind that is waited for gets ready on a real cluster, and not before it is."""

from __future__ import annotations

import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube.readiness import rules_of
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.system.timeline import Deadline, monotonic
from tests.e2e.kube.objects import (
    GROUP,
    api_service,
    bare_pod,
    claim,
    container,
    cron_job,
    daemon_set,
    deployment,
    job,
    k8s_service,
    mount,
    probe,
    replica_set,
    stateful_set,
    widget,
    widgets,
)

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject

LONG = 60.0
WIDGETS = f"/apis/{GROUP}/v1/namespaces/{{}}/widgets/"
READY_AFTER = 2


@pytest.fixture(scope="module")
def namespace(real_kube: Kube) -> Iterator[str]:
    name = f"ready-{uuid.uuid4().hex[:6]}"
    real_kube.ensure_namespace(name, Deadline.after(30), {"kindinfra/tests": "kube"})
    yield name
    real_kube.delete_namespace(name)


@pytest.fixture(scope="module")
def widget_kind(real_kube: Kube) -> Iterator[None]:
    real_kube.apply(widgets(), namespace="", deadline=Deadline.after(10))
    real_kube.wait_established(widgets(), Deadline.after(20))
    yield
    real_kube.delete_if(
        f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{GROUP}", lambda _: True
    )


def slow_start(image: str) -> dict[str, Any]:
    """Return a container that is ready only after a while, and says so by a probe."""
    script = f"sleep {READY_AFTER}; touch /tmp/ready; sleep 1000"
    return container(image, script, readinessProbe=probe("test -f /tmp/ready"))


def apply(kube: Kube, namespace: str, *objects: KubeObject) -> list[KubeObject]:
    deadline = Deadline.after(LONG)
    return [kube.apply(obj, namespace=namespace, deadline=deadline) for obj in objects]


def wait(kube: Kube, namespace: str, *objects: KubeObject, **how: Any) -> None:
    seconds = how.pop("seconds", LONG)
    kube.wait_ready(
        objects, namespace=namespace, deadline=Deadline.after(seconds), restarts=0, **how
    )


def live(kube: Kube, namespace: str, obj: KubeObject) -> KubeObject:
    found = kube.get(kube.path_of(obj, namespace=namespace))
    assert found
    return found


def status(kube: Kube, namespace: str, obj: KubeObject, key: str) -> Any:
    return (live(kube, namespace, obj).get("status") or {}).get(key)


@contextmanager
def set_later(kube: Kube, path: str, body: dict[str, Any]) -> Iterator[None]:
    """Have a status change in a second, as a controller would."""

    def change() -> None:
        kind = "application/merge-patch+json"
        kube.request("PATCH", f"{path}/status", body={"status": body}, content_type=kind)

    timer = threading.Timer(1.0, change)
    timer.start()
    yield
    timer.join()


def kinds(image: str) -> dict[str, tuple[list[KubeObject], str, Any]]:
    """Return for each kind: what is applied, and which field of its status must say what."""
    slow, brief = slow_start(image), container(image, "sleep 1")
    pair = deployment("pair", containers=[slow])
    pair["spec"]["replicas"] = 2
    return {
        "Deployment": ([pair], "availableReplicas", 2),
        "StatefulSet": ([stateful_set("stateful", containers=[slow])], "readyReplicas", 1),
        "DaemonSet": ([daemon_set("daemon", containers=[slow])], "numberAvailable", 1),
        "ReplicaSet": ([replica_set("replicas", containers=[slow])], "availableReplicas", 1),
        "Pod": ([bare_pod("alone", containers=[slow])], "phase", "Running"),
        "Job": ([job("job", containers=[brief])], "succeeded", 1),
        "CronJob": ([cron_job("cron", containers=[brief])], "lastScheduleTime", None),
        # Bound once a pod wants it, which is the pod's affair.
        "PersistentVolumeClaim": ([claim("unused")], "phase", "Pending"),
        "PersistentVolumeClaim in use": (
            [
                claim("used"),
                bare_pod("user", containers=[{**slow,
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], **mount("used")),
            ],
            "phase", "Bound"),
    }  # fmt: skip


KINDS = sorted(kinds(""))


@pytest.fixture(scope="module")
def waited(real_kube: Kube, namespace: str, shell_image: str) -> dict[str, float]:
    """All kinds, applied side by side: how long each took, in seconds."""

    def bring_up(name: str) -> float:
        objects, _, _ = kinds(shell_image)[name]
        start = monotonic()
        apply(real_kube, namespace, *objects)
        wait(real_kube, namespace, *objects)
        return monotonic() - start

    with ThreadPoolExecutor(len(KINDS)) as pool:
        return dict(zip(KINDS, pool.map(bring_up, KINDS), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_waited_for_until_its_status_says_that_it_is_ready(
    real_kube: Kube, namespace: str, shell_image: str, waited: dict[str, float], kind: str
) -> None:
    objects, key, value = kinds(shell_image)[kind]
    print(f"{kind}: {waited[kind]:.1f} s")  # noqa: T201

    assert status(real_kube, namespace, objects[0], key) == value


def test_kinds_that_gate_nothing_cost_no_time(waited: dict[str, float]) -> None:
    assert waited["CronJob"] < READY_AFTER
    assert waited["PersistentVolumeClaim"] < READY_AFTER


def test_a_changed_deployment_is_ready_when_its_old_pods_are_gone(
    real_kube: Kube, namespace: str, shell_image: str, waited: dict[str, float]
) -> None:
    assert waited
    changed = deployment("pair", containers=[{**slow_start(shell_image), "args": ["new"]}])
    changed["spec"]["replicas"] = 2
    apply(real_kube, namespace, changed)

    wait(real_kube, namespace, changed)

    path = f"/api/v1/namespaces/{namespace}/pods"
    pods = real_kube.list_(path, labelSelector="app=pair")
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    assert [pod["spec"]["containers"][0].get("args") for pod in living] == [["new"], ["new"]]
    found = live(real_kube, namespace, changed)
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"] == 2


def test_a_k8s_service_is_ready_when_a_pod_behind_it_is(
    real_kube: Kube, namespace: str, shell_image: str
) -> None:
    late = [k8s_service("late"), deployment("late", containers=[slow_start(shell_image)])]
    apply(real_kube, namespace, *late)

    wait(real_kube, namespace, *late)

    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices = real_kube.list_(path, labelSelector="kubernetes.io/service-name=late")
    ready = [one["conditions"]["ready"] for part in slices for one in part["endpoints"]]
    assert ready == [True]


def test_a_k8s_service_for_pods_of_others_is_not_waited_for(
    real_kube: Kube, namespace: str
) -> None:
    lonely = k8s_service("lonely")
    apply(real_kube, namespace, lonely)

    wait(real_kube, namespace, lonely, seconds=1)


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        (
            "condition",
            "condition=Ready",
            {"conditions": [{"type": "Ready", "status": "True"}], "observedGeneration": 1},
        ),
        ("field", "jsonpath={.status.phase}=Running", {"phase": "Running"}),
    ],
)
@pytest.mark.usefixtures("widget_kind")
def test_a_custom_resource_is_ready_when_it_says_what_was_declared(
    real_kube: Kube, namespace: str, name: str, rule: str, said: dict[str, Any]
) -> None:
    apply(real_kube, namespace, widget(name))

    with set_later(real_kube, WIDGETS.format(namespace) + name, said):
        wait(real_kube, namespace, widget(name), rules=rules_of([("Widget", rule)]))

    assert status(real_kube, namespace, widget(name), next(iter(said))) == next(iter(said.values()))


@pytest.mark.usefixtures("widget_kind")
def test_a_custom_resource_that_stays_behind_is_told_with_its_condition(
    real_kube: Kube, namespace: str
) -> None:
    apply(real_kube, namespace, widget("stuck"))
    entry = {"type": "Ready", "status": "False", "reason": "NoDisk", "message": "no disk is free"}
    with set_later(real_kube, WIDGETS.format(namespace) + "stuck", {"conditions": [entry]}):
        pass
    rules = rules_of([(f"Widget.{GROUP}", "condition=Ready")])

    with pytest.raises(ServiceFailedError) as caught:
        wait(real_kube, namespace, widget("stuck"), rules=rules, seconds=0.5)

    assert str(caught.value) == (
        "not ready within the time limit:\n"
        '    Widget "stuck": condition Ready is False: NoDisk: no disk is free'
    )


@pytest.mark.usefixtures("widget_kind")
def test_an_api_service_is_ready_when_it_is_available(real_kube: Kube, namespace: str) -> None:
    local = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{GROUP}"},
    }
    wait(real_kube, namespace, local, seconds=10)
    away = api_service(namespace)
    apply(real_kube, namespace, away)
    try:
        with pytest.raises(ServiceFailedError) as caught:
            wait(real_kube, namespace, away, seconds=3)
    finally:  # the API server could list no kinds for as long as it is there
        real_kube.delete_if(real_kube.path_of(away, namespace=""), lambda _: True)

    assert str(caught.value) == (
        "not ready within the time limit:\n"
        f'    APIService "v1.missing.{GROUP}": not available: ServiceNotFound: '
        f'service/missing in "{namespace}" is not present'
    )


def test_what_is_missing_is_said_of_each_object_when_the_time_is_up(
    real_kube: Kube, namespace: str, shell_image: str
) -> None:
    long = container(shell_image, "sleep 1000")
    objects = [
        stateful_set("asleep", containers=[{**long, "readinessProbe": probe("exit 1")}]),
        k8s_service("asleep"),
        job("endless", containers=[long]),
        deployment("never-made", containers=[long]),
    ]
    apply(real_kube, namespace, *objects[:3])

    with pytest.raises(ServiceFailedError) as caught:
        wait(real_kube, namespace, *objects, seconds=6)

    assert str(caught.value) == (
        "not ready within the time limit:\n"
        '    StatefulSet "asleep": 0 of 1 pods available\n'
        '    pod "asleep-0" is Running, container "main" runs but is not ready\n'
        "      event: Unhealthy: Readiness probe failed:\n"
        '    Job "endless": not complete (1 active)\n'
        '    Deployment "never-made" does not exist'
    )


def test_a_wait_outlives_a_restart_of_the_api_server(
    real_kube: Kube, namespace: str, shell_image: str, node_name: str
) -> None:
    script = "sleep 6; touch /tmp/ready; sleep 1000"
    patient = deployment(
        "patient",
        containers=[container(shell_image, script, readinessProbe=probe("test -f /tmp/ready"))],
    )
    apply(real_kube, namespace, patient)
    start = monotonic()
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(wait, real_kube, namespace, patient)
        before = in_node(node_name, "pgrep", "-x", "kube-apiserver")
        in_node(node_name, "pkill", "-KILL", "-x", "kube-apiserver")
        outcome.result()
    print(f"{monotonic() - start:.1f} s")  # noqa: T201

    assert in_node(node_name, "pgrep", "-x", "kube-apiserver") != before
    assert status(real_kube, namespace, patient, "availableReplicas") == 1


def in_node(node: str, *argv: str) -> str:
    """Run a program in a kind node."""
    full = ["docker", "exec", node, *argv]
    return subprocess.run(full, check=True, capture_output=True, text=True, timeout=30).stdout

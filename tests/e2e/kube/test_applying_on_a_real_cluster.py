"""Server-side apply on a real cluster: what passes is waited for, what does not is told."""

from __future__ import annotations

import threading
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.system.timeline import Deadline, monotonic
from tests.e2e.kube.objects import (
    bare_pod,
    config_map,
    container,
    deployment,
    job,
    k8s_service,
    policy,
    webhook,
)

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import KubeObject

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
HOOKS = f"{ADMISSION}/validatingwebhookconfigurations/"


@pytest.fixture(scope="module")
def namespace(real_kube: Kube) -> Iterator[str]:
    name = f"apply-{uuid.uuid4().hex[:6]}"
    real_kube.ensure_namespace(name, Deadline.after(30), {"kindinfra/tests": "kube"})
    yield name
    real_kube.delete_namespace(name)


def apply(kube: Kube, namespace: str, obj: KubeObject, seconds: float = 20) -> KubeObject:
    return kube.apply(obj, namespace=namespace, deadline=Deadline.after(seconds))


def refusal(kube: Kube, namespace: str, obj: KubeObject, seconds: float = 20) -> str:
    with pytest.raises(ApiError) as caught:
        apply(kube, namespace, obj, seconds)
    return str(caught.value)


def test_pods_can_be_made_at_once_in_a_new_namespace(real_kube: Kube, shell_image: str) -> None:
    name = f"fresh-{uuid.uuid4().hex[:6]}"
    start = monotonic()
    real_kube.ensure_namespace(name, Deadline.after(30), {})
    took = monotonic() - start
    path = f"/api/v1/namespaces/{name}/pods"
    pod = bare_pod("first", containers=[container(shell_image, "sleep 1000")])
    try:
        real_kube.request("POST", path, body=pod)  # which nobody would try again
    finally:
        real_kube.delete_namespace(name)

    print(f"{took:.2f} s")  # noqa: T201
    assert took < 2


def test_a_second_apply_of_the_same_thing_changes_nothing(
    real_kube: Kube, namespace: str, shell_image: str
) -> None:
    for obj in (
        config_map("same", a="1"),
        k8s_service("same"),
        deployment("same", containers=[container(shell_image, "sleep 1000")]),
    ):
        first = apply(real_kube, namespace, obj)
        second = apply(real_kube, namespace, obj)

        assert of_ours(second) == of_ours(first)


def of_ours(obj: KubeObject) -> list[object]:
    """Return the object's generation, and when and what of it was applied by us."""
    entries = [one for one in obj["metadata"]["managedFields"] if one["manager"] == "kindinfra"]
    return [obj["metadata"].get("generation"), obj["metadata"]["uid"], *entries]


def test_fields_of_another_manager_are_taken_over(real_kube: Kube, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps/shared"
    real_kube.request(
        "PATCH", path, body=config_map("shared", a="theirs"), query={"fieldManager": "helm"},
        content_type="application/apply-patch+yaml",
    )  # fmt: skip

    stored = apply(real_kube, namespace, config_map("shared", a="ours"))

    assert stored["data"] == {"a": "ours"}


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_a_job_or_pod_that_cannot_be_changed_is_made_anew(
    real_kube: Kube, namespace: str, shell_image: str, kind: str
) -> None:
    make = job if kind == "Job" else bare_pod
    first = apply(real_kube, namespace, make("anew", containers=[container(shell_image, "true")]))
    changed = make("anew", containers=[container(shell_image, "echo changed")])

    second = apply(real_kube, namespace, changed)

    assert second["metadata"]["uid"] != first["metadata"]["uid"]


def test_a_pod_that_is_just_being_deleted_is_waited_for_and_made_anew(
    real_kube: Kube, namespace: str, shell_image: str
) -> None:
    main = container(shell_image, "trap '' TERM; while true; do sleep 0.1; done")
    pod = bare_pod("stubborn", containers=[main], terminationGracePeriodSeconds=2)
    first = apply(real_kube, namespace, pod)
    real_kube.wait_ready([pod], namespace=namespace, deadline=Deadline.after(20), restarts=0)
    real_kube.delete_if(f"/api/v1/namespaces/{namespace}/pods/stubborn", lambda _: True)

    second = apply(real_kube, namespace, pod)

    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert "deletionTimestamp" not in second["metadata"]


def test_a_deployments_selector_cannot_be_changed_and_the_way_out_is_told(
    real_kube: Kube, namespace: str, shell_image: str
) -> None:
    main = container(shell_image, "sleep 1000")
    apply(real_kube, namespace, deployment("fixed", containers=[main]))
    other = deployment("fixed", containers=[main])
    other["spec"]["selector"]["matchLabels"]["more"] = "yes"
    other["spec"]["template"]["metadata"]["labels"]["more"] = "yes"

    assert refusal(real_kube, namespace, other) == (
        f'cannot apply Deployment "fixed" in namespace "{namespace}": Deployment.apps "fixed" is '
        'invalid: spec.selector: Invalid value: {"matchLabels":{"app":"fixed","more":"yes"}}: '
        "field is immutable (422 Invalid)\n"
        "To fix: give it another name, or delete the existing one: "
        f"kubectl --namespace {namespace} delete deployment fixed"
    )


def test_a_k8s_services_address_cannot_be_changed_and_the_way_out_is_told(
    real_kube: Kube, namespace: str
) -> None:
    apply(real_kube, namespace, k8s_service("fixed"))

    assert refusal(real_kube, namespace, k8s_service("fixed", clusterIP="None")) == (
        f'cannot apply Service "fixed" in namespace "{namespace}": Service "fixed" is invalid: '
        'spec.clusterIPs[0]: Invalid value: ["None"]: may not change once set (422 Invalid)\n'
        "To fix: give it another name, or delete the existing one: "
        f"kubectl --namespace {namespace} delete service fixed"
    )


def test_a_policys_refusal_is_told_at_once(real_kube: Kube, namespace: str) -> None:
    rule, binding = policy(namespace, namespace)
    try:
        apply(real_kube, "", rule)
        apply(real_kube, "", binding)
        told = _first_refusal(real_kube, namespace)
    finally:
        real_kube.delete_if(
            f"{ADMISSION}/validatingadmissionpolicybindings/{namespace}", lambda _: True
        )
        real_kube.delete_if(f"{ADMISSION}/validatingadmissionpolicies/{namespace}", lambda _: True)
        _until_allowed(real_kube, namespace)

    name = f"ValidatingAdmissionPolicy '{namespace}' with binding '{namespace}'"
    assert told == (
        f'cannot apply ConfigMap "teamless" in namespace "{namespace}": '
        f'configmaps "teamless" is forbidden: {name} denied request: name the team (422 Invalid)'
    )


def _first_refusal(kube: Kube, namespace: str) -> str:
    """Apply what a policy forbids until the API server has read the policy."""
    late = Deadline.after(20)
    while not late.passed:
        try:
            apply(kube, namespace, config_map("teamless"), seconds=10)
        except ApiError as error:
            return str(error)
        kube.delete_if(f"/api/v1/namespaces/{namespace}/configmaps/teamless", lambda _: True)
        late.pause(0.2)
    return ""


def _until_allowed(kube: Kube, namespace: str) -> None:
    late = Deadline.after(20)
    while not late.passed:
        with suppress(ApiError):
            apply(kube, namespace, config_map("teamless"), seconds=10)
            return
        late.pause(0.2)


def test_a_webhook_that_is_not_there_yet_is_waited_for(real_kube: Kube, namespace: str) -> None:
    label = f"hooked-{uuid.uuid4().hex[:6]}"
    hooked = config_map("hooked")
    hooked["metadata"]["labels"] = {label: "yes"}
    apply(real_kube, "", webhook(label, namespace, label))
    try:
        told = _told_by_hook(real_kube, namespace, hooked)
        timer = threading.Timer(1.5, real_kube.delete_if, [f"{HOOKS}{label}", lambda _: True])
        timer.start()
        stored = apply(real_kube, namespace, hooked, seconds=30)
        timer.join()
    finally:
        real_kube.delete_if(f"{HOOKS}{label}", lambda _: True)

    assert stored["metadata"]["labels"] == {label: "yes"}
    what = f'cannot apply ConfigMap "hooked" in namespace "{namespace}" within 0.5 s'
    url = f"https://hook.{namespace}.svc:443/?timeout=1s"
    assert told.partition("\nTo fix: ")[0] == (
        f'{what}: Internal error occurred: failed calling webhook "check.tests.kindinfra.dev": '
        f'failed to call webhook: Post "{url}": service "hook" not found (500 InternalError)'
    )


def _told_by_hook(kube: Kube, namespace: str, hooked: KubeObject) -> str:
    """Wait until the API server asks the webhook, and return what it says then."""
    late = Deadline.after(20)
    while not late.passed:
        try:
            apply(kube, namespace, hooked, seconds=0.5)
        except ApiError as error:
            return str(error)
        kube.delete_if(f"/api/v1/namespaces/{namespace}/configmaps/hooked", lambda _: True)
        late.pause(0.2)
    return ""

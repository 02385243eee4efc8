"""Applying: patient with what passes by itself, quick with what does not."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError, ClusterError
from pytest_kindinfra.kube import refusals
from pytest_kindinfra.kube.apply import Outlook
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.discovery import UnknownKindError
from pytest_kindinfra.kube.refusals import Missing
from pytest_kindinfra.system.timeline import Deadline
from tests.unit.kube.objects import config_map, crd, end_soon, gadget, workload

if TYPE_CHECKING:
    from pytest_kindinfra.kube.cluster import Kube
    from tests.fake_kubernetes import FakeKubernetes

MAP = "/api/v1/namespaces/default/configmaps/settings"


def patches(fake: FakeKubernetes) -> int:
    return sum(method == "PATCH" for method, _ in fake.requests)


def test_an_object_costs_one_request_once_its_kind_is_known(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    kube.apply(config_map("one"), namespace="default", deadline=soon)
    fake.requests.clear()

    stored = kube.apply(config_map(a="1"), namespace="default", deadline=soon)

    assert stored["data"] == {"a": "1"}
    assert fake.requests == [("PATCH", MAP)]


def test_an_objects_own_namespace_wins(kube: Kube, soon: Deadline) -> None:
    obj = config_map()
    obj["metadata"]["namespace"] = "kube-system"

    kube.apply(obj, namespace="default", deadline=soon)

    assert kube.get("/api/v1/namespaces/kube-system/configmaps/settings")


def test_an_object_of_the_whole_cluster_gets_no_namespace(kube: Kube, soon: Deadline) -> None:
    stored = kube.apply(crd(), namespace="default", deadline=soon)

    assert "namespace" not in stored["metadata"]
    assert not kube.is_namespaced(crd())


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, 'namespaces "default" not found'),
        (409, "the object has been modified"),
        (429, "too many requests"),
        (500, 'failed calling webhook "x": connection refused'),
        (503, "apiserver is shutting down"),
        (403, 'configmaps is forbidden: User "x" cannot patch resource "configmaps"'),
        (401, "Unauthorized"),
        (403, "error looking up service account default/default: not found"),
        (403, "unable to create new content in namespace x because it is being terminated"),
        (404, "the server could not find the requested resource"),
        (409, 'object is being deleted: configmaps "settings" already exists'),
        (409, "Precondition failed: UID in precondition: 1, UID in object meta: 2"),
        (403, 'pods "x" is forbidden: status unknown for quota: q, resources: pods'),
        (500, "etcdserver: leader changed"),
        (0, "the connection breaks, more often than one request is tried"),
    ],
)
def test_what_passes_is_tried_again(
    kube: Kube, fake: FakeKubernetes, soon: Deadline, status: int, message: str
) -> None:
    fake.fail("PATCH", MAP, status, message, times=1 if status else 4)

    kube.apply(config_map(), namespace="default", deadline=soon)

    assert MAP in fake.objects


@pytest.mark.parametrize(
    ("status", "message", "fix"),
    [
        (403, "exceeded quota", "raise the ResourceQuota, or ask for less"),
        (403, 'violates PodSecurity "restricted:latest"', "change the pod's securityContext"),
        (422, "spec.ports[0].port: Invalid value", ""),
        (422, "spec.ports[0].nodePort: provided port is already allocated", "another nodePort"),
        (422, "failed to allocate IP: provided IP is already allocated", "remove clusterIP"),
        (400, 'admission webhook "policy" denied the request', ""),
        (
            500,
            "failed to create typed patch object: .spec.foo: field not declared in schema",
            "correct or remove the field",
        ),
        (
            409,
            "uid mismatch: the provided object specified uid 1, and no existing object was found",
            "remove metadata.uid",
        ),
    ],
)
def test_a_refusal_is_told_at_once(
    kube: Kube, fake: FakeKubernetes, soon: Deadline, status: int, message: str, fix: str
) -> None:
    fake.fail("PATCH", MAP, status, message)

    with pytest.raises(ApiError) as caught:
        kube.apply(config_map(), namespace="default", deadline=soon)

    told, _, way_out = str(caught.value).partition("\nTo fix: ")
    what = 'cannot apply ConfigMap "settings" in namespace "default"'
    assert told == f"{what}: {message} ({status} Faked)"
    assert fix in way_out
    assert bool(fix) == bool(way_out)
    assert patches(fake) == 1


def test_a_namespace_that_nobody_makes_is_told_within_seconds(
    kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    obj = config_map()
    obj["metadata"]["namespace"] = "shopp"
    said: list[str] = []
    outlook = Outlook(tell=said.append, grace=0.2)
    monkeypatch.setattr(refusals, "MISSING_GRACE", 0.2)

    with pytest.raises(ApiError) as caught:
        kube.apply(obj, namespace="default", deadline=Deadline.after(60), outlook=outlook)

    assert str(caught.value) == (
        'cannot apply ConfigMap "settings" in namespace "shopp": namespaces "shopp" not found '
        '(404 NotFound)\nTo fix: correct the name, or add Namespace "shopp" to the manifests of '
        "this service or of one that it needs"
    )
    assert said[0] == 'namespaces "shopp" not found'
    assert not said[-1]


def test_a_namespace_is_waited_for_while_something_may_still_make_it(
    kube: Kube, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MISSING_GRACE", 0.0)
    obj = config_map()
    obj["metadata"]["namespace"] = "late"
    asked: list[Missing] = []

    def makers(missing: Missing) -> list[str]:
        asked.append(missing)
        if len(asked) == 3:
            kube.ensure_namespace("late", soon, {})
        return ["operator"]

    kube.apply(obj, namespace="default", deadline=soon, outlook=Outlook(makers=makers, grace=0.0))

    assert set(asked) == {Missing("namespaces", "late")}


def test_a_kind_that_nobody_defines_is_told_within_seconds(
    kube: Kube, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MISSING_GRACE", 0.1)
    outlook = Outlook(grace=0.1)

    with pytest.raises(UnknownKindError, match="To fix: add the CustomResourceDefinition"):
        kube.apply(gadget(), namespace="default", deadline=Deadline.after(60), outlook=outlook)


def test_the_limit_that_was_reached_is_told(kube: Kube, fake: FakeKubernetes) -> None:
    fake.fail("PATCH", MAP, 503, "shutting down", times=99)
    deadline = Deadline.after(0.2, option="[services.web] timeout")

    with pytest.raises(ApiError, match=r"within 0\.2 s \(\[services\.web\] timeout\): shutting"):
        kube.apply(config_map(), namespace="default", deadline=deadline)


def test_metadata_that_only_a_server_sets_is_not_applied(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    obj = config_map()
    obj["metadata"] |= {
        "uid": "0b7c1b1e-6f1c-4c53-9a43-1f0c8f6c3c01",
        "resourceVersion": "48113",
        "selfLink": "/api/v1/x",
        "creationTimestamp": "2026-03-02T08:12:41Z",
        "generation": 4,
        "managedFields": [],
        "deletionTimestamp": "2026-03-02T08:12:41Z",
    }

    kube.apply(obj, namespace="default", deadline=soon)

    sent = json.loads(fake.bodies[MAP])
    assert sent["metadata"] == {"name": "settings", "namespace": "default"}


def test_a_kind_whose_definition_went_is_looked_up_again(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    kube.apply(crd(), namespace="default", deadline=soon)
    kube.apply(gadget(), namespace="default", deadline=soon)
    fake.fail("PATCH", "/gadgets/one", 404, "404 page not found")

    kube.apply(gadget(), namespace="default", deadline=soon)

    lookups = [path for method, path in fake.requests if path == "/apis/example.com/v1"]
    assert len(lookups) > 1


def test_a_user_who_may_not_is_told_after_a_while(
    kube: Kube, fake: FakeKubernetes, soon: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "DOUBT_GRACE", 0.2)
    fake.fail("PATCH", MAP, 403, 'User "x" cannot patch resource "configmaps"', times=99)

    with pytest.raises(ApiError, match="cannot patch resource"):
        kube.apply(config_map(), namespace="default", deadline=soon)


def test_what_does_not_pass_is_told_at_the_deadline(kube: Kube, fake: FakeKubernetes) -> None:
    fake.fail("PATCH", MAP, 503, "shutting down", times=99)

    with pytest.raises(ApiError, match=r"shutting down \(503 Faked\)"):
        kube.apply(config_map(), namespace="default", deadline=Deadline.after(0.2))


def test_a_lost_server_is_told_at_the_deadline(kube: Kube, fake: FakeKubernetes) -> None:
    fake.fail("PATCH", MAP, 0, times=99)

    with pytest.raises(ClusterError, match='cannot apply ConfigMap "settings"'):
        kube.apply(config_map(), namespace="default", deadline=Deadline.after(0.1))


def test_the_end_of_the_run_ends_the_trying(kube: Kube, fake: FakeKubernetes) -> None:
    fake.fail("PATCH", MAP, 503, times=99)
    cancelled = threading.Event()
    cancelled.set()

    with pytest.raises(CancelledError):
        kube.apply(config_map(), namespace="default", deadline=Deadline.after(9, cancelled))


def test_a_kind_is_looked_up_anew_after_its_definition(kube: Kube, soon: Deadline) -> None:
    with pytest.raises(UnknownKindError):
        kube.path_of(gadget(), namespace="default")

    kube.apply(crd(), namespace="default", deadline=soon)
    kube.wait_established(crd(), soon)

    kube.apply(gadget(), namespace="default", deadline=soon)
    assert kube.get("/apis/example.com/v1/namespaces/default/gadgets/one")


def test_a_kind_that_may_still_come_is_waited_for(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    timer = threading.Timer(0.1, kube.apply, [crd()], {"namespace": "default", "deadline": soon})
    timer.start()

    kube.apply(gadget(), namespace="default", deadline=soon)

    timer.join()
    assert "/apis/example.com/v1/namespaces/default/gadgets/one" in fake.objects


@pytest.mark.parametrize(
    ("version", "kind", "hint"),
    [
        ("apps/v1", "Deploymet", '; did you mean "Deployment"?'),
        ("v1", "Deployment", "; did you mean apiVersion apps/v1?"),
        ("apps/v2", "Deployment", '; group "apps" has apps/v1'),
        ("networking.k8s.io/v9", "Ingress", '; group "networking.k8s.io" has networking.k8s.io/v1'),
        (
            "policy/v1beta1",
            "PodDisruptionBudget",
            "; Kubernetes 1.25 removed it; use policy/v1",
        ),
    ],
)
def test_a_kind_that_cannot_come_is_told_at_once(
    kube: Kube, soon: Deadline, version: str, kind: str, hint: str
) -> None:
    obj = {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}

    with pytest.raises(UnknownKindError) as caught:
        kube.apply(obj, namespace="default", deadline=soon)

    what = f'cannot apply {kind} "x" in namespace "default"'
    told, _, fix = str(caught.value).partition("\nTo fix: ")
    assert told == f'{what}: no matches for kind "{kind}" in version "{version}"{hint}'
    assert fix == "correct apiVersion and kind; `kubectl api-resources` lists them"


def test_an_object_that_names_something_twice_is_created_and_then_merged(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    twice = 'failed to create typed patch object: .env: duplicate entries for key [name="A"]'
    fake.fail("PATCH", MAP, 500, twice)
    first = kube.apply(config_map(a="1"), namespace="default", deadline=soon)
    fake.fail("PATCH", MAP, 500, twice)
    second = kube.apply(config_map(a="2"), namespace="default", deadline=soon)

    assert (first["data"], second["data"]) == ({"a": "1"}, {"a": "2"})
    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert [method for method, path in fake.requests if "configmaps" in path] == [
        "PATCH", "POST", "PATCH", "POST", "PATCH",
    ]  # fmt: skip


def test_a_job_that_cannot_be_changed_is_made_anew(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    first = kube.apply(workload("Job"), namespace="default", deadline=soon)
    fake.fail("PATCH", "/jobs/api", 422, "spec.template: field is immutable")

    second = kube.apply(workload("Job", parallelism=2), namespace="default", deadline=soon)

    assert second["metadata"]["uid"] != first["metadata"]["uid"]


def test_what_is_just_being_deleted_is_waited_for_and_made_anew(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    kube.apply(config_map(), namespace="default", deadline=soon)
    first = end_soon(fake, "configmaps/settings")

    second = kube.apply(config_map(), namespace="default", deadline=soon)

    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert "deletionTimestamp" not in second["metadata"]


def test_another_object_that_cannot_be_changed_is_left_alone(
    kube: Kube, fake: FakeKubernetes, soon: Deadline
) -> None:
    kube.apply(workload(), namespace="default", deadline=soon)
    fake.fail("PATCH", "/deployments/api", 422, "spec.selector: field is immutable")

    with pytest.raises(ApiError) as caught:
        kube.apply(workload(replicas=2), namespace="default", deadline=soon)

    assert str(caught.value) == (
        'cannot apply Deployment "api" in namespace "default": spec.selector: field is immutable '
        "(422 Faked)\nTo fix: give it another name, or delete the existing one: "
        "kubectl --namespace default delete deployment api"
    )
    assert ("DELETE", "/apis/apps/v1/namespaces/default/deployments/api") not in fake.requests

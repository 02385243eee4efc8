"""What a run needs to be allowed in a cluster of others, and what is missing of it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.kube.rights import Right, missing_rights, rights_for, shown
from tests.fake_kubernetes import FakeKubernetes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
CUSTOM = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        yield server


@pytest.fixture
def reader(kubernetes: FakeKubernetes, tmp_path: Path) -> Iterator[Reader]:
    with closing(Reader(kubernetes.write_kubeconfig(tmp_path / "kubeconfig"))) as reader:
        yield reader


def needed(reader: Reader, *objects: dict[str, Any], namespace: str = "default") -> list[Right]:
    placed = [(one, namespace) for one in objects]
    return rights_for(reader, placed, namespace, forwards=False)


def test_objects_are_read_applied_listed_and_deleted_where_they_go(reader: Reader) -> None:
    elsewhere = {**MAP, "metadata": {"name": "other", "namespace": "other"}}

    found = needed(reader, MAP, elsewhere)

    maps = [(one.namespace, one.verb) for one in found if one.resource == "configmaps"]
    verbs = ("create", "delete", "get", "list", "patch")
    assert maps == [(place, verb) for place in ("default", "other") for verb in verbs]


def test_only_objects_without_a_namespace_need_rights_in_the_whole_cluster(reader: Reader) -> None:
    assert {one.namespace for one in needed(reader, MAP)} == {"default"}
    assert {one.resource for one in needed(reader, SPACE) if not one.namespace} == {"namespaces"}


def test_a_namespace_that_is_missing_has_to_be_created(reader: Reader) -> None:
    created = Right("create", "", "namespaces", "")

    assert created in needed(reader, MAP, namespace="new")
    assert created not in needed(reader, MAP)


def test_one_that_may_not_be_seen_is_not_asked_for(
    reader: Reader, kubernetes: FakeKubernetes
) -> None:
    kubernetes.forbidden = lambda _, path: path.endswith("/namespaces/default")

    assert Right("create", "", "namespaces", "") not in needed(reader, MAP)


def test_kinds_that_the_cluster_does_not_have_yet_are_left_out(reader: Reader) -> None:
    assert needed(reader, CUSTOM) == needed(reader)


def test_an_administrator_is_asked_for_once(reader: Reader, kubernetes: FakeKubernetes) -> None:
    asked: list[dict[str, str]] = []

    def allow(attributes: dict[str, str]) -> bool:
        asked.append(attributes)
        return True

    kubernetes.allows = allow

    assert missing_rights(reader, needed(reader, MAP)) == []
    assert asked == [{"verb": "*", "group": "*", "resource": "*"}]


def test_each_right_that_is_refused_is_returned(reader: Reader, kubernetes: FakeKubernetes) -> None:
    forward = Right("create", "", "pods/portforward", "team")
    rights = [forward, Right("list", "apps", "deployments", "team"), Right("get", "", "nodes", "")]
    kubernetes.allows = lambda asked: asked["resource"] == "deployments"

    assert missing_rights(reader, rights) == [rights[0], rights[2]]


@pytest.mark.parametrize("status", [403, 404])
def test_a_cluster_that_does_not_say_is_taken_as_it_is(
    reader: Reader, kubernetes: FakeKubernetes, status: int
) -> None:
    kubernetes.fail("POST", REVIEWS, status, times=9)

    assert missing_rights(reader, [Right("get", "", "nodes", "")]) == []


def test_any_other_failure_is_raised(reader: Reader, kubernetes: FakeKubernetes) -> None:
    kubernetes.fail("POST", REVIEWS, 400, "no such field", times=9)

    with pytest.raises(ApiError, match="no such field"):
        missing_rights(reader, [Right("get", "", "nodes", "")])


def test_verbs_of_a_resource_are_shown_together() -> None:
    rights = [
        Right("create", "apps", "deployments", "team"),
        Right("patch", "apps", "deployments", "team"),
        Right("create", "", "namespaces", ""),
    ]

    assert shown(rights) == [
        'create, patch deployments.apps in namespace "team"',
        "create namespaces in the whole cluster",
    ]

"""Run in two workers on a cluster of two kind nodes."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("everywhere")
def test_each_kind_node_runs_the_built_image(kindinfra: Stack) -> None:
    api = CoreV1Api(kindinfra.kube)
    pods: list[Any] = api.list_namespaced_pod("default", label_selector="app=everywhere").items

    assert {pod.spec.node_name.removeprefix(kindinfra.cluster) for pod in pods} == {
        "-control-plane",
        "-worker",
    }
    assert {pod.spec.containers[0].image for pod in pods} == {kindinfra.images["web"]}
    assert all(status.ready for pod in pods for status in pod.status.container_statuses)


@pytest.mark.kindinfra("widget")
def test_a_custom_resource_names_the_image_of_this_run(kindinfra: Stack) -> None:
    widget: Any = CustomObjectsApi(kindinfra.kube).get_namespaced_custom_object(
        "example.com", "v1", "default", "widgets", "one"
    )

    assert widget["spec"] == {"runs": kindinfra.images["web"]}


@pytest.mark.kindinfra("tls")
def test_an_endpoint_with_tls_on_a_worker_answers_at_the_url_in_the_environment(
    kindinfra: Stack,
) -> None:
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE

    assert os.environ["TLS_URL"] == kindinfra.url("tls").rstrip("/")
    with urlopen(os.environ["TLS_URL"], context=anybody, timeout=5) as answer:  # noqa: S310 - our own endpoint
        assert answer.status == 200


@pytest.mark.kindinfra("from-hook")
def test_a_service_that_a_hook_added_is_there(kindinfra: Stack) -> None:
    CoreV1Api(kindinfra.kube).read_namespaced_config_map("from-hook", "default")

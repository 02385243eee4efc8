"""What tests see of a cluster that was there before; named so that the outer run leaves it."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra import Stack

HELLO = b"hello\n"


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - ours
        return bytes(answer.read())


@pytest.fixture
def web_alone() -> Iterator[None]:
    """One of these tests replaces the pods, which breaks the connections of others."""
    with FileLock("web.lock"):
        yield


@pytest.mark.usefixtures("web_alone")
@pytest.mark.parametrize("number", range(4))
@pytest.mark.kindinfra("web")
def test_every_endpoint_is_the_same_in_all_workers(kindinfra: Stack, number: int) -> None:
    urls = [kindinfra.url("web"), kindinfra.url("web", "direct"), kindinfra.url("web", "tcp")]
    Path(f"urls-{number}").write_text(" ".join(urls))

    assert fetch(urls[0]) == fetch(urls[1]) == HELLO


@pytest.mark.usefixtures("web_alone")
@pytest.mark.kindinfra("web")
def test_a_node_port_is_reached_at_the_address_of_a_kind_node(kindinfra: Stack) -> None:
    """Services of type NodePort were added for it, which are the run's."""
    (node,) = kindinfra.core.list_node().items
    assert node.status
    own = {one.address for one in node.status.addresses or () if one.type == "InternalIP"}
    http, tcp = kindinfra.endpoint("web", "node"), kindinfra.endpoint("web", "node-tcp")

    assert {http.host, tcp.host} <= own
    assert fetch(http.url) == fetch(f"http://{tcp.host}:{tcp.port}") == HELLO
    found = kindinfra.core.list_namespaced_service("shop").items
    names = {one.metadata.name for one in found if one.metadata}
    assert names == {"web", "web-node-kindinfra", "web-node-tcp-kindinfra"}


@pytest.mark.usefixtures("web_alone")
@pytest.mark.kindinfra("web")
def test_many_connections_at_once(kindinfra: Stack) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(fetch, [kindinfra.url("web")] * 40))

    assert answers == [HELLO] * 40


@pytest.mark.usefixtures("web_alone")
@pytest.mark.kindinfra("web")
def test_an_endpoint_answers_again_when_its_pods_were_replaced(kindinfra: Stack) -> None:
    from kubernetes import client

    core, url = client.CoreV1Api(kindinfra.kube), kindinfra.url("web")
    old = {pod.metadata.name for pod in core.list_namespaced_pod("shop").items if pod.metadata}
    core.delete_collection_namespaced_pod("shop", label_selector="app=web")
    late = time.monotonic() + 180
    while True:
        pods = {pod.metadata.name for pod in core.list_namespaced_pod("shop").items if pod.metadata}
        try:
            if old.isdisjoint(pods) and fetch(url) == HELLO:
                break
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
        assert time.monotonic() < late, "it does not answer"


@pytest.mark.kindinfra("shared")
def test_what_is_there_as_declared_is_taken(kindinfra: Stack) -> None:
    from kubernetes import client

    part = client.CustomObjectsApi(kindinfra.kube).get_namespaced_custom_object(
        "example.org", "v1", "foreign", "parts", "wheel"
    )
    assert isinstance(part, dict)
    assert part["spec"] == {"size": 3}


@pytest.mark.kindinfra("texts")
def test_a_chart_is_installed(kindinfra: Stack) -> None:
    from kubernetes import client

    core = client.CoreV1Api(kindinfra.kube)
    assert core.read_namespaced_config_map("texts-texts", "foreign").data == {"greeting": "hello"}


@pytest.mark.kindinfra("taken")
def test_a_release_of_others_is_an_error() -> None:
    """Never run."""


@pytest.mark.kindinfra("clash")
def test_what_is_there_otherwise_is_an_error() -> None:
    """Never run."""


def test_a_namespace_of_a_test(kindinfra: Stack, kindinfra_namespace: str) -> None:
    assert kindinfra.cluster
    assert kindinfra_namespace

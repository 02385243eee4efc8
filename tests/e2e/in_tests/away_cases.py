"""The API server is away while tests use it; the outer run does not collect them.

What comes from outside of the kind node is refused for five seconds: the pods work on.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker
    from docker.models.containers import Container

    from pytest_kindinfra import Apply, Http, Stack

    Away = Callable[[], threading.Event]

SECONDS = 5.0
RULE = "INPUT -i eth0 -p tcp --dport 6443 -j REJECT --reject-with tcp-reset"
MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "while-away"},
    "data": {"a": "b"},
}

# The other tests use the same API server.
pytestmark = pytest.mark.kindinfra("web", "other", exclusive=True)


@pytest.fixture
def node(kindinfra: Stack, kindinfra_docker: docker.DockerClient) -> Container:
    return kindinfra_docker.containers.get(f"{kindinfra.cluster}-control-plane")


@contextmanager
def away(node: Container) -> Iterator[threading.Event]:
    """Refuse requests for a while; the event says that they are answered again."""
    back = threading.Event()

    def end() -> None:
        back.set()
        assert node.exec_run(f"iptables -D {RULE}").exit_code == 0

    assert node.exec_run(f"iptables -I {RULE}").exit_code == 0
    timer = threading.Timer(SECONDS, end)
    timer.start()
    try:
        yield back
    finally:
        timer.join()


def test_calls_of_a_test_outlast_it(
    kindinfra: Stack, kindinfra_http: Http, node: Container
) -> None:
    before = kindinfra.exec("other", ["hostname"], check=True).stdout
    kindinfra_http("web").get("/asked-before")

    def logged() -> None:
        assert "asked-before" in kindinfra.logs("web")

    with away(node) as back, ThreadPoolExecutor() as pool:
        calls: list[Callable[[], object]] = [
            lambda: kindinfra.exec("web", ["cat"], input="all of it").stdout,
            lambda: kindinfra.logs("web"),
            lambda: kindinfra.eventually(logged),
            lambda: kindinfra.restart("other"),
        ]
        waiting = [pool.submit(lambda call=call: (call(), back.is_set())) for call in calls]  # type: ignore[misc]
        done = [one.result() for one in waiting]

    assert [was_back for _, was_back in done] == [True] * len(calls)
    assert done[0][0] == "all of it"
    assert "asked-before" in str(done[1][0])
    assert kindinfra.exec("other", ["hostname"], check=True).stdout != before
    assert kindinfra_http("other").get("/").text == "hello\n"


def test_objects_are_applied_and_awaited_through_it(
    kindinfra: Stack, kindinfra_apply: Apply, kindinfra_namespace: str, node: Container
) -> None:
    with away(node) as back:
        kindinfra_apply(MAP, kindinfra_namespace)
        assert back.is_set()
    with away(node):
        log = kindinfra.run_job("job.yaml", namespace=kindinfra_namespace)

    assert log == "line 1\nline 2\nline 3\n"
    found = kindinfra.core.read_namespaced_config_map("while-away", kindinfra_namespace)
    assert found.data == MAP["data"]

"""A suite as people write it for pytest-kind; named so that the outer run does not collect it.

One session fixture loads, applies and forwards, written with one process in mind. The only line
that pytest-kind would want otherwise is marked: its `api` is pykube's client.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra import KindCluster

NAMESPACE = ("-n", "suite")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - ours
        return str(answer.read().decode())


def eventually_get(url: str) -> str:
    late = time.monotonic() + 60
    while True:
        try:
            return get(url)
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < late, "it does not answer"
            time.sleep(0.2)


def eventually_says(kind_cluster: KindCluster, text: str, *command: str) -> None:
    """Wait until kubectl prints that; another test replaces the pod, beside this one perhaps."""
    late = time.monotonic() + 60
    while True:
        try:
            if text in kind_cluster.kubectl(*command, stderr=subprocess.DEVNULL):
                return
        except subprocess.CalledProcessError:
            pass
        assert time.monotonic() < late, "it does not say so"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def hello(kind_cluster: KindCluster) -> Iterator[str]:
    kind_cluster.load_docker_image("busybox")
    kind_cluster.kubectl("apply", "-f", str(Path(__file__).with_name("hello.yaml")))
    kind_cluster.kubectl("rollout", "status", "deployment/hello", *NAMESPACE)
    with kind_cluster.port_forward("service/hello", 80, *NAMESPACE) as port:
        yield f"http://localhost:{port}"


def test_hello_world(hello: str) -> None:
    assert get(f"{hello}/") == "Hello, world\n"


@pytest.mark.parametrize(
    ("path", "text"), [("index.html", "Hello, world\n"), ("health", "OK\n"), ("about", "about\n")]
)
def test_pages(hello: str, path: str, text: str) -> None:
    assert get(f"{hello}/{path}") == text


def test_a_page_that_is_not_there(hello: str) -> None:
    with pytest.raises(urllib.error.HTTPError):
        get(f"{hello}/nothing")


def test_the_session_s_forward_survives_its_pod(kind_cluster: KindCluster, hello: str) -> None:
    kind_cluster.kubectl("delete", "pod", "-l", "application=hello", *NAMESPACE)
    kind_cluster.kubectl("rollout", "status", "deployment/hello", *NAMESPACE)

    assert eventually_get(f"{hello}/health") == "OK\n"


def test_kubectl_get(kind_cluster: KindCluster, hello: str) -> None:
    assert hello
    found = json.loads(kind_cluster.kubectl("get", "deploy", "hello", *NAMESPACE, "-o", "json"))
    assert found["metadata"]["labels"]["application"] == "hello"


def test_kubectl_version(kind_cluster: KindCluster) -> None:
    assert "Server Version" in kind_cluster.kubectl("version")


def test_kubectl_takes_what_check_output_takes(kind_cluster: KindCluster) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: piped}\n"

    assert "configmap/piped" in kind_cluster.kubectl("apply", "-f", "-", input=manifest)


def test_kubectl_raises(kind_cluster: KindCluster) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        kind_cluster.kubectl("get", "pod", "nobody", stderr=subprocess.DEVNULL)


def test_kubectl_create(kind_cluster: KindCluster) -> None:
    kind_cluster.kubectl("create", "configmap", "made", "--from-literal=a=b")
    try:
        data = kind_cluster.kubectl("get", "configmap", "made", "-o", "jsonpath={.data.a}")
        assert data == "b"
    finally:
        kind_cluster.kubectl("delete", "configmap", "made")


def test_kubectl_exec(kind_cluster: KindCluster, hello: str) -> None:
    assert hello
    command = ("exec", "deployment/hello", *NAMESPACE, "--", "cat", "/www/about")
    eventually_says(kind_cluster, "about\n", *command)


def test_kubectl_logs(kind_cluster: KindCluster, hello: str) -> None:
    assert hello
    eventually_says(kind_cluster, "serving", "logs", "deployment/hello", *NAMESPACE)


def test_kubectl_wait(kind_cluster: KindCluster) -> None:
    kind_cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=60s")


@pytest.mark.parametrize("number", range(2))
def test_load_docker_image(kind_cluster: KindCluster, number: int) -> None:
    kind_cluster.load_docker_image("busybox")

    images = kind_cluster.kubectl("get", "nodes", "-o", "jsonpath={..images[*].names}")
    assert number < 2
    assert images


def test_port_forward_to_a_pod_on_a_certain_port(kind_cluster: KindCluster) -> None:
    pod = "pod/coredns" + kind_cluster.kubectl(
        *("get", "pods", "-n", "kube-system", "-l", "k8s-app=kube-dns"),
        *("-o", "jsonpath={.items[0].metadata.name}"),
    ).removeprefix("coredns")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        local = free.getsockname()[1]

    with kind_cluster.port_forward(pod, 8080, "-n", "kube-system", local_port=local) as port:
        assert port == local
        assert get(f"http://127.0.0.1:{port}/health") == "OK"


def test_port_forward_to_dns(kind_cluster: KindCluster) -> None:
    kind_cluster.kubectl("rollout", "status", "deploy/coredns", "-n", "kube-system")

    # a high number of retries, since the pod may be pending for a while
    with kind_cluster.port_forward("service/kube-dns", 53, "-n", "kube-system", retries=20) as port:
        assert port >= 1024
        socket.create_connection(("127.0.0.1", port), timeout=10).close()


def test_api(kind_cluster: KindCluster, hello: str) -> None:
    from kubernetes import client

    assert hello
    core = client.CoreV1Api(kind_cluster.api)  # pytest-kind: pykube.Service.objects(api)
    service = core.read_namespaced_service("hello", "suite")
    assert service.spec is not None
    assert service.spec.selector == {"application": "hello"}


def test_name_and_kubeconfig(kind_cluster: KindCluster) -> None:
    clusters = subprocess.check_output(["kind", "get", "clusters"], text=True).split()
    kubeconfig = ("--kubeconfig", str(kind_cluster.kubeconfig_path))

    assert kind_cluster.name in clusters
    assert subprocess.check_output(["kubectl", *kubeconfig, "get", "nodes", "-o", "name"])

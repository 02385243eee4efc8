"""What fixtures give on a real cluster; named so that the outer run does not collect it."""

from __future__ import annotations

import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import KindCluster, Stack

MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: shared}
"""


@pytest.mark.parametrize("number", range(4))
def test_workers_may_create_the_same_thing_with_apply(
    kind_cluster: KindCluster, number: int
) -> None:
    assert "configmap/shared" in kind_cluster.kubectl("apply", "-f", "-", input=MAP), number


def test_a_failing_kubectl_raises_as_people_expect(kind_cluster: KindCluster) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        kind_cluster.kubectl("get", "nothing", stderr=subprocess.DEVNULL)


@pytest.mark.kindinfra("web")
def test_a_port_forward_leads_to_the_service(kind_cluster: KindCluster) -> None:
    with kind_cluster.port_forward("service/web", 80) as port:
        url = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read() == b"hello\n"


def test_an_image_of_the_engine_can_be_loaded(kind_cluster: KindCluster) -> None:
    kind_cluster.load_docker_image("busybox")
    kind_cluster.load_docker_image("busybox")

    nodes = kind_cluster.kubectl(
        "get", "nodes", "-o", "jsonpath={.items[*].status.images[*].names}"
    )
    assert kind_cluster.name
    assert nodes


def test_a_namespace_is_ready_for_pods(kindinfra: Stack, kindinfra_namespace: str) -> None:
    from kubernetes import client

    accounts = client.CoreV1Api(kindinfra.kube).list_namespaced_service_account(kindinfra_namespace)
    assert "default" in [account.metadata.name for account in accounts.items if account.metadata]


def test_the_bare_cluster_needs_no_service(kindinfra: Stack) -> None:
    assert kindinfra.kubeconfig.stat().st_mode & 0o077 == 0
    assert kindinfra.namespace == "default"

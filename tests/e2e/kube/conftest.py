"""A small kind cluster of these tests' own, made once and deleted afterwards."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "kindinfra-kube-tests"
NODE_IMAGE = os.environ.get("KINDINFRA_NODE_IMAGE", "kindest/node:v1.34.4")
CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  labels:
    kindinfra/tests: kube
  extraPortMappings:
"""
NODE_PORTS = range(30000, 30004)
MAPPING = "  - {{containerPort: {}, hostPort: {}, listenAddress: 127.0.0.1}}\n"


@pytest.fixture(scope="session")
def real_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if given := os.environ.get("KINDINFRA_TESTS_KUBECONFIG"):
        yield Path(given)
        return
    if not shutil.which("kind") or not shutil.which("docker"):
        pytest.fail("no kind or no docker on PATH: run `make setup`")
    folder = tmp_path_factory.mktemp("kube")
    config, kubeconfig = folder / "kind.yaml", folder / "kubeconfig"
    mappings = (MAPPING.format(*pair) for pair in _free_ports().items())
    config.write_text(CONFIG + "".join(mappings))
    flags = ["--name", NAME, "--kubeconfig", str(kubeconfig)]
    create = ["kind", "create", "cluster", *flags, "--image", NODE_IMAGE, "--config", str(config)]
    try:
        subprocess.run(create, check=True, timeout=300)
        yield kubeconfig
    finally:
        subprocess.run(["kind", "delete", "cluster", *flags], check=True, timeout=120)


@pytest.fixture(scope="session")
def real_kube(real_kubeconfig: Path) -> Iterator[Kube]:
    """The API of a cluster that is up: nodes Ready, names resolved."""
    kube = Kube(real_kubeconfig)
    deadline = Deadline.after(120)
    kube.wait_for_api(deadline)
    kube.wait_for_nodes(deadline)
    kube.wait_for_dns(deadline)
    yield kube
    kube.close()


def _free_ports() -> dict[int, int]:
    """Return a free host port for each NodePort."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in NODE_PORTS]
        return {port: one.getsockname()[1] for port, one in zip(NODE_PORTS, listeners, strict=True)}


@pytest.fixture(scope="session")
def image_like(real_kube: Kube) -> Callable[[str], str]:
    """Finds an image that the kind node has by a part of its name, so that nothing is pulled."""
    [node] = real_kube.list_("/api/v1/nodes")
    names: list[str] = [name for image in node["status"]["images"] for name in image["names"]]
    return lambda part: next(name for name in names if part in name and "@" not in name)


@pytest.fixture(scope="session")
def shell_image(image_like: Callable[[str], str]) -> str:
    """An image that holds a shell."""
    return image_like("local-path-helper")


@pytest.fixture(scope="session")
def node_name(real_kube: Kube) -> str:
    """The name of the one kind node."""
    [node] = real_kube.list_("/api/v1/nodes")
    return str(node["metadata"]["name"])


@pytest.fixture(scope="session")
def host_ports(node_name: str) -> dict[int, int]:
    """NodePort to the host port that leads to it."""
    ports = {}
    for port in NODE_PORTS:
        argv = ["docker", "port", node_name, f"{port}/tcp"]
        told = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout
        ports[port] = int(told.split()[0].rpartition(":")[2])
    return ports

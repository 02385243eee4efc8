"""pytest-kubernetes as its README has it: create, load, apply, wait, one after another."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from pytest_kubernetes.options import ClusterOptions
from pytest_kubernetes.providers import select_provider_manager
from pytest_kubernetes.providers.base import AClusterManager

NAMES = [path.stem for path in sorted(Path("k8s").glob("*.yaml"))]


@pytest.fixture(scope="session")
def cluster() -> Iterator[AClusterManager]:
    config = Path("named.yaml")
    text = Path("kind.yaml").read_text()
    node = f"- role: control-plane\n  image: {os.environ['NODE_IMAGE']}\n"
    named = text.replace("- role: control-plane\n", node)
    config.write_text(f"name: {os.environ['CLUSTER']}\n{named}")
    made = select_provider_manager("kind")(os.environ["CLUSTER"], provider_config=config)
    made.create(ClusterOptions(provider_config=config, cluster_timeout=240))
    yield made
    made.delete()


def test_all(cluster: AClusterManager) -> None:
    subprocess.run(["docker", "build", "-q", "-t", "bench-base", "base"], check=True)
    for name in NAMES:
        subprocess.run(["docker", "build", "-q", "-t", f"localhost/{name}:dev", name], check=True)
        cluster.load_image(f"localhost/{name}:dev")
        cluster.apply(Path("k8s") / f"{name}.yaml")
        if os.environ["EDGES"] == "ready":
            await_available(cluster, name)
    for name in NAMES:
        await_available(cluster, name)
    for port in map(int, os.environ["PORTS"].split()):
        await_answer(port)


def await_available(cluster: AClusterManager, name: str) -> None:
    cluster.wait(f"deployments/{name}", "condition=Available=True", timeout=300)


def await_answer(port: int) -> None:
    """Return when a service answers: the cluster is deleted right after the last one."""
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}", timeout=1):
                return
        except OSError:
            time.sleep(0.05)

"""pytest-kind as its README has it: a session fixture builds, loads and applies."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from pytest_kind import KindCluster

NAMES = [path.stem for path in sorted(Path("k8s").glob("*.yaml"))]


@pytest.fixture(scope="session")
def cluster() -> Iterator[KindCluster]:
    made = KindCluster(
        os.environ["CLUSTER"],
        image=os.environ["NODE_IMAGE"],
        kind_path=Path(os.environ["KIND"]),
        kubectl_path=Path(os.environ["KUBECTL"]),
    )
    made.create(Path("kind.yaml").absolute())
    yield made
    made.delete()


def test_all(cluster: KindCluster) -> None:
    subprocess.run(["docker", "build", "-q", "-t", "bench-base", "base"], check=True)
    for name in NAMES:
        subprocess.run(["docker", "build", "-q", "-t", f"localhost/{name}:dev", name], check=True)
        cluster.load_docker_image(f"localhost/{name}:dev")
    in_order = os.environ["EDGES"] == "ready"
    if not in_order:
        cluster.kubectl("apply", "-f", "k8s")
    for name in NAMES:
        if in_order:
            cluster.kubectl("apply", "-f", f"k8s/{name}.yaml")
        cluster.kubectl("rollout", "status", f"deployment/{name}")
    for port in map(int, os.environ["PORTS"].split()):
        await_answer(port)


def await_answer(port: int) -> None:
    """Return when a service answers: the cluster is deleted right after the last one."""
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}", timeout=1):
                return
        except OSError:
            time.sleep(0.05)

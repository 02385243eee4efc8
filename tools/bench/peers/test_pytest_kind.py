"""pytest-kind as its README has it: a session fixture builds, loads and applies."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

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
    cluster.kubectl("apply", "-f", "k8s")
    for name in NAMES:
        cluster.kubectl("rollout", "status", f"deployment/{name}")

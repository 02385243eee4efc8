"""A small kind cluster of these tests' own, made once and deleted afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube import Kube
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "kindinfra-kube-tests"
NODE_IMAGE = os.environ.get("KINDINFRA_NODE_IMAGE", "kindest/node:v1.34.4")
CONFIG = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  labels:
    kindinfra/tests: kube
"""


@pytest.fixture(scope="session")
def real_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if given := os.environ.get("KINDINFRA_TESTS_KUBECONFIG"):
        yield Path(given)
        return
    if not shutil.which("kind") or not shutil.which("docker"):
        pytest.fail("no kind or no docker on PATH: run `make setup`")
    folder = tmp_path_factory.mktemp("kube")
    config, kubeconfig = folder / "kind.yaml", folder / "kubeconfig"
    config.write_text(CONFIG)
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


@pytest.fixture(scope="session")
def shell_image(real_kube: Kube) -> str:
    """An image that the kind node has and that holds a shell, so that nothing is pulled."""
    [node] = real_kube.list_("/api/v1/nodes")
    names: list[str] = [name for image in node["status"]["images"] for name in image["names"]]
    return next(name for name in names if "local-path-helper" in name and "@" not in name)

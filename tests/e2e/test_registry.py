"""Images on their way through a real registry, beside a real cluster."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.engines.registry import DockerRegistry
from pytest_kindinfra.images.registry import RegistrySender
from pytest_kindinfra.system.runner import Runner
from pytest_kindinfra.system.timeline import Deadline
from tests.e2e.runs import ROOT, registry, run_pytest
from tests.fakes import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.protocols.registry import Registry

MEGABYTE = 1_000_000
DECLARATION = """
[cluster]
node_image = "kindest/node:v1.34.4"

[images.one]
context = "one"
needs = ["base"]
[images.two]
context = "two"
needs = ["base"]
[images.base]
context = "base"

[services.one]
image = "one"
manifests = ["one.yaml"]
endpoints.http = { port = 80, path = "/" }
[services.two]
image = "two"
manifests = ["two.yaml"]
needs = ["one:applied"]
endpoints.http = { port = 80, path = "/" }
[services.redis]
manifests = ["redis.yaml"]
endpoints.tcp = { port = 6379, scheme = "tcp", send = "PING\\r\\n", expect = "+PONG" }
"""
CASES = """
import json
import time
import urllib.request

import pytest
from kubernetes import client
from subprocess import check_output

def images_of(stack, app):
    pods = client.CoreV1Api(stack.kube).list_namespaced_pod("default", label_selector=f"app={app}")
    return {pod.spec.containers[0].image for pod in pods.items}

@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.kindinfra("one", "two")
def test_its_pod_runs_what_was_pushed(kindinfra, name):
    with urllib.request.urlopen(kindinfra.url(name), timeout=10) as answer:
        assert answer.read() == name.encode()
    (image,) = images_of(kindinfra, name)
    assert image.startswith(f"localhost:") and f"/{name}:" in image and "@sha256:" in image
    assert image == kindinfra.images[name]

@pytest.mark.kindinfra("redis")
def test_an_image_that_was_not_built_goes_the_same_way(kindinfra):
    (image,) = images_of(kindinfra, "redis")
    assert "/library/redis:7-" in image

@pytest.mark.kindinfra("one")
def test_tools_are_told_of_it(kind_cluster):
    words = ("get", "configmap", "local-registry-hosting", "--namespace=kube-public")
    told = kind_cluster.kubectl(*words, "--output=yaml")
    assert "localRegistryHosting.v1" in told and 'host: "localhost:' in told

@pytest.mark.kindinfra("one")
def test_the_kubelet_pulls_what_the_kind_node_has_lost(kindinfra, kind_cluster):
    image = kind_cluster.kubectl("get", "deployment", "one", "-o", "jsonpath={..image}")
    tagged, _, digest = image.partition("@")
    listed = f"{tagged.rpartition(':')[0]}@{digest}"
    node = f"{kind_cluster.name}-control-plane"
    ctr = ["docker", "exec", node, "ctr", "-n", "k8s.io", "images"]
    check_output([*ctr, "remove", "--sync", listed])
    assert listed not in check_output([*ctr, "list", "-q"], text=True).split()
    kind_cluster.kubectl("run", "again", "--image", image, "--image-pull-policy=IfNotPresent")
    kind_cluster.kubectl("wait", "--for=condition=Ready", "pod/again", "--timeout=60s")
    assert listed in check_output([*ctr, "list", "-q"], text=True).split()
"""


def docker(*words: str) -> str:
    done = subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Path]:
    """A project of two services whose images share a base that nobody has."""
    folder, small = tmp_path / "shop", ROOT / "tests" / "e2e" / "small"
    (folder / "base").mkdir(parents=True)
    (folder / "base" / "large").write_bytes(os.urandom(10 * MEGABYTE))
    (folder / "base" / "Dockerfile").write_text("FROM busybox\nCOPY large /\n")
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "index.html").write_text(name)
        dockerfile = (small / "svc" / "Dockerfile").read_text()
        (folder / name / "Dockerfile").write_text(dockerfile.replace("busybox", "base"))
        manifest = (small / "web.yaml").read_text()
        (folder / f"{name}.yaml").write_text(manifest.replace("web", name))
    (folder / "redis.yaml").write_text((small / "redis.yaml").read_text())
    (folder / "kindinfra.toml").write_text(DECLARATION)
    (folder / "test_shop.py").write_text(CASES)
    yield folder
    ours = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    names = [f"localhost/{name}:" for name in ("one", "two", "base")]
    if found := [one for one in ours if one.startswith(tuple(names))]:
        docker("image", "rm", *found)


@pytest.fixture
def registries() -> Iterator[DockerRegistry]:
    host = DockerRegistry(Runner())
    host.remove(Deadline.after(60))
    yield host
    host.remove(Deadline.after(60))


@pytest.mark.alone  # the registry is shared by all runs of this host
def test_images_reach_pods_through_it(shop: Path, registries: DockerRegistry) -> None:
    run = run_pytest(shop, "-v", "--kindinfra-load=registry")

    assert run.exit_code == 0, run.output
    assert re.search(r"load +one .* \d+ of \d+ layers pushed", run.output), run.output
    assert {phase["name"] for phase in run.phases("load")} == {
        "load one",
        "load two",
        "load redis:7",
    }
    names = docker("image", "ls", "--format", "{{.Repository}}").split()
    assert not [name for name in names if name.startswith("localhost:")]
    assert registries.remove(Deadline.after(60))


@pytest.mark.alone
def test_it_keeps_its_port_when_it_joins_the_network_of_a_cluster(
    registries: DockerRegistry,
) -> None:
    before, network = registries.run(Deadline.after(60)), f"kindinfra-e2e-{uuid.uuid4().hex[:8]}"
    docker("network", "create", network)
    try:
        docker("network", "connect", network, before.container)

        assert registries.run(Deadline.after(60)) == before
    finally:
        registries.remove(Deadline.after(60))
        docker("network", "rm", network)


class WithoutNodes(DockerRegistry):
    """Real registries, and kind nodes that only play a part."""

    def open_to(self, node: str, registry: Registry, folder: Path, deadline: Deadline) -> None:
        """Do nothing."""


@pytest.fixture
def mine() -> Iterator[str]:
    """The address of a registry of the user's own."""
    with registry() as address:
        yield f"localhost:{address.rpartition(':')[2]}"


def test_of_a_second_image_only_its_own_layers_are_pushed(mine: str, tmp_path: Path) -> None:
    """The registry is found by its port. There is no cluster: what a kind node does is above."""
    runner = Runner()
    host, deadline = WithoutNodes(runner), Deadline.after(60)
    names = [f"localhost/kindinfra-e2e-{uuid.uuid4().hex[:8]}:{tag}" for tag in "12"]
    (tmp_path / "large").write_bytes(os.urandom(MEGABYTE))
    for name in names:
        (tmp_path / "small").write_text(name)
        (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY large /\nCOPY small /\n")
        words = ("buildx", "build", "--load", "--provenance=false", "--quiet")
        docker(*words, "--tag", name, str(tmp_path))

    def send(reference: str) -> str:
        sender = RegistrySender(
            host.find(mine, deadline),
            host=host, engine=Docker(runner), kind_nodes=FakeProvider(), folder=tmp_path,
        )  # fmt: skip
        return sender.send((reference,), ("node",), deadline).note

    try:
        notes = [send(name) for name in (*names, names[0])]
    finally:
        docker("image", "rm", *names)

    # Docker 26.1 with containerd's image store pushes the large layer again too: "2 of 3".
    less = "1 of 3 layers pushed", "2 of 3 layers pushed"
    assert (notes[0], notes[2]) == ("3 of 3 layers pushed", "in the registry")
    assert notes[1] in (less if _has_containerd_store() else less[:1])


def _has_containerd_store() -> bool:
    return "io.containerd.snapshotter" in docker("info", "--format", "{{json .DriverStatus}}")

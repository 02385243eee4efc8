"""Images on their way from Docker into the kind nodes of a real cluster of two."""

from __future__ import annotations

import os
import subprocess
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.clusters.kind import KindProvider
from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.images.load import ImageLoader, ImageReadyNodes
from pytest_kindinfra.system.runner import Runner
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.e2e.runs import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import Cluster

NODE_IMAGE = os.environ.get("KINDINFRA_NODE_IMAGE", "kindest/node:v1.34.4")
MEGABYTE = 1_000_000
BASE_SIZE = 20 * MEGABYTE
CTR = ("ctr", "--namespace", "k8s.io")
runner = Runner()
kind, docker = KindProvider(runner), Docker(runner)


def run(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    name = f"kindinfra-loading-{uuid.uuid4().hex[:6]}"
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    roles = ("control-plane", "worker")
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [{"role": role, "image": NODE_IMAGE} for role in roles],
    }
    deadline = Deadline.after(300)
    try:
        yield kind.create(name, config=config, kubeconfig=kubeconfig, deadline=deadline)
    finally:
        kind.delete(name, kubeconfig=kubeconfig, deadline=Deadline.after(120))


@dataclass
class Images:
    """Images of one base, new in each test; what stays in Docker is removed."""

    folder: Path
    name: str = field(default_factory=lambda: f"localhost/kindinfra-loading-{uuid.uuid4().hex[:8]}")
    built: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "large").write_bytes(os.urandom(BASE_SIZE))

    def build(self, tag: str, *, content: str | None = None) -> str:
        """Build an image with one small file above the base; without content the base alone."""
        (self.folder / "small").write_text(content or "")
        lines = ["FROM busybox", "COPY large /", *(["COPY small /"] if content else [])]
        (self.folder / "Dockerfile").write_text("\n".join(lines))
        self.built.append(f"{self.name}:{tag}")
        words = ("docker", "buildx", "build", "--load", "--provenance=false", "--quiet")
        run(*words, "--tag", self.built[-1], str(self.folder))
        return self.built[-1]


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    made = Images(tmp_path)
    yield made
    run("docker", "image", "rm", *made.built)


class Loading:
    """A loader, and what its loads have sent."""

    def __init__(self, *nodes: str) -> None:
        self.timeline = Timeline()
        self.loader = ImageLoader(
            nodes, engine=docker, kind_nodes=kind, runner=runner, timeline=self.timeline
        )

    @classmethod
    def without_late(cls, *nodes: str) -> Loading:
        """Return one whose further kind nodes are to join later."""
        loading = cls(*nodes)
        loading.loader = ImageLoader(
            nodes,
            engine=docker,
            kind_nodes=kind,
            runner=runner,
            timeline=loading.timeline,
            late=True,
        )
        return loading

    def load(self, reference: str) -> int:
        """Load an image and return how many bytes were sent."""
        self.loader.load("it", reference, Deadline.after(120))
        return self.timeline.phases[-1].sent or 0


def ready(node: str) -> set[str]:
    """Return the images that containerd calls whole and unpacked."""
    return {*run("docker", "exec", node, *CTR, "images", "check", "-q").split()}


def small_file(node: str, reference: str) -> str:
    """Run the image and return what it has in its small file."""
    words = ("run", "--rm", "--net-host", reference, f"t-{uuid.uuid4().hex[:8]}", "cat", "/small")
    return run("docker", "exec", node, *CTR, *words)


def test_of_an_image_rebuilt_with_a_small_change_only_that_is_sent(
    nodes: tuple[str, ...], images: Images
) -> None:
    loading = Loading(*nodes)
    first, second = images.build("1", content="a"), images.build("2", content="b")

    sent_first, sent_second = loading.load(first), loading.load(second)

    assert sent_first > 2 * BASE_SIZE
    assert sent_second < MEGABYTE
    assert [small_file(node, second) for node in nodes] == ["b", "b"]
    assert all({first, second} <= ready(node) for node in nodes)


def test_each_kind_node_gets_what_it_lacks(nodes: tuple[str, ...], images: Images) -> None:
    Loading(nodes[0]).load(images.build("base"))
    image = images.build("1", content="a")

    sent = Loading(*nodes).load(image)

    assert BASE_SIZE < sent < 2 * BASE_SIZE
    assert [small_file(node, image) for node in nodes] == ["a", "a"]


def test_what_a_kind_node_has_no_more_is_sent_again(nodes: tuple[str, ...], images: Images) -> None:
    loading = Loading(*nodes)
    there = kind.images_in(nodes[1], Deadline.after(60))
    loading.load(images.build("1", content="a"))
    ours = kind.images_in(nodes[1], Deadline.after(60)) - there
    run("docker", "exec", nodes[1], *CTR, "images", "remove", "--sync", *ours)
    image = images.build("2", content="b")

    sent = loading.load(image)

    assert sent > 2 * BASE_SIZE
    assert [small_file(node, image) for node in nodes] == ["b", "b"]
    assert all(image in ready(node) for node in nodes)


def test_a_kind_node_that_is_late_gets_what_the_other_got(
    nodes: tuple[str, ...], images: Images
) -> None:
    """Its containerd is down while the image is loaded, and answers afterwards."""
    late, deadline = next(node for node in nodes if "worker" in node), Deadline.after(120)
    name = late.removesuffix("-worker")
    created: Future[Cluster] = Future()
    ready = ImageReadyNodes(provider=kind, cluster=name, count=2, created=created, settle=0.5)
    image = images.build("1", content="a")
    run("docker", "exec", late, "systemctl", "stop", "containerd")
    try:
        there = ready.await_first(deadline)
        loading = Loading.without_late(*there)
        with ThreadPoolExecutor(2) as pool:
            load = pool.submit(loading.load, image)
            until(lambda: image in kind.images_in(there[0], deadline))
            unfinished = not load.done()
            joining = pool.submit(ready.join_late, loading.loader, there, deadline)
            run("docker", "exec", late, "systemctl", "start", "containerd")
            joining.result()
            load.result()
    finally:
        run("docker", "exec", late, "systemctl", "start", "containerd")

    assert (there, unfinished) == ((f"{name}-control-plane",), True)
    assert [small_file(node, image) for node in nodes] == ["a", "a"]


def test_one_stream_goes_to_all_kind_nodes(nodes: tuple[str, ...], images: Images) -> None:
    image, loading = images.build("1", content="a"), Loading(*nodes)

    sent = loading.load(image)

    (phase,) = loading.timeline.phases
    assert 2 * BASE_SIZE < sent < 3 * BASE_SIZE
    assert phase.name == "load it"
    assert all(image in ready(node) for node in nodes)

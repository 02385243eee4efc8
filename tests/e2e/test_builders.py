"""Builds by a real buildkitd that is not the engine's, over a real registry, for a real cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.system.files import free_port
from tests.e2e.runs import (
    LONGEST_WAIT,
    ROOT,
    environment,
    registry,
    run_command,
    run_pytest,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

BUILDKIT = "moby/buildkit:v0.12.5"
DECLARATION = """
[cluster]
node_image = "kindest/node:v1.34.4"

[images]
registry = "{address}/farm"
builder = "{builder}"
[images.farm-base]
context = "base"
cache_to = ["type=registry,ref={address}/cache/base,mode=max,image-manifest=true"]
cache_from = ["{address}/cache/base"]
[images.farm-web]
context = "web"
needs = ["farm-base"]
cache_to = ["type=registry,ref={address}/cache/web,mode=max,image-manifest=true"]
cache_from = ["{address}/cache/web"]

[services.web]
image = "farm-web"
manifests = ["web.yaml"]
endpoints.http = {{ port = 80, path = "/" }}
"""
CASES = """
import urllib.request
import pytest

@pytest.mark.parametrize("number", range(4))
@pytest.mark.kindinfra("web")
def test_its_pod_runs_what_the_registry_has(kindinfra, number):
    pods = kindinfra.core.list_namespaced_pod("default", label_selector="app=web").items
    (image,) = {pod.spec.containers[0].image for pod in pods}
    assert image == kindinfra.images["farm-web"]
    assert image.startswith("localhost:") and "/farm/farm-web@sha256:" in image
    with urllib.request.urlopen(kindinfra.url("web"), timeout=10) as answer:
        assert answer.read() == b"from the farm\\n"
"""


def docker(*words: str) -> str:
    argv = ["docker", *words]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=True, env=environment()
    )
    return done.stdout


@dataclass(frozen=True)
class Farm:
    """A builder of buildx of the driver `remote`.

    Attributes:
        name: The builder's name, and that of the container with its buildkitd.
    """

    name: str

    def steps(self, word: str) -> int:
        """Return how many `RUN` instructions with a word it has executed so far."""
        argv = ["docker", "logs", self.name]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        lines = (done.stdout + done.stderr).splitlines()
        return sum("> creating" in line and word in line for line in lines)


@contextmanager
def farm() -> Iterator[Farm]:
    """Run a buildkitd that has nothing yet; it sees this host's loopback registries."""
    with ExitStack() as sockets:
        address = f"tcp://127.0.0.1:{free_port(sockets)}"
    made = Farm(f"kindinfra-e2e-{uuid.uuid4().hex[:8]}")
    worker = ("--oci-worker-snapshotter=native", "--oci-worker-net=host")
    docker(
        *("run", "--detach", "--name", made.name, "--privileged", "--network=host", BUILDKIT),
        *("--debug", "--addr", address, *worker),
    )
    try:
        docker("buildx", "create", "--name", made.name, "--driver=remote", address)
        docker("buildx", "inspect", "--bootstrap", made.name)
        yield made
    finally:
        docker("rm", "--force", "--volumes", made.name)
        subprocess.run(
            ["docker", "buildx", "rm", made.name],
            check=False,
            capture_output=True,
            env=environment(),
        )


class PullsOnly(BaseHTTPRequestHandler):
    """A registry that has nothing, and from which all may pull, but not push."""

    def do_GET(self) -> None:
        root = self.path == "/v2/"  # asked for how to log in
        self.send_response(401 if root else 404)
        if root:
            self.send_header("WWW-Authenticate", 'Basic realm="team"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - as http.server calls it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def refusing() -> Iterator[str]:
    """Run a registry that refuses each push; Docker would ask one that is read-only for 50 s."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), PullsOnly)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module", autouse=True)
def _own_buildx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave the user's list of builders as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BUILDX_CONFIG", str(tmp_path_factory.mktemp("buildx")))
        yield


@pytest.fixture
def address() -> Iterator[str]:
    """A registry that has busybox, since a builder has no images of the engine."""
    with registry() as found:
        name = f"localhost:{found.rpartition(':')[2]}"
        docker("tag", "busybox", f"{name}/busybox")
        try:
            docker("push", f"{name}/busybox")
            yield name
        finally:
            docker("image", "rm", f"{name}/busybox")


@pytest.fixture
def project(tmp_path: Path, address: str) -> Iterator[Path]:
    """A project with an image and its base; their steps have a word that no other run has."""
    folder, small = tmp_path / "farm", ROOT / "tests" / "e2e" / "small"
    texts = {
        "base": f"FROM {address}/busybox\nRUN mkdir /www && echo {word(tmp_path, 'base')}\n",
        "web": (
            f"FROM farm-base\nRUN echo {word(tmp_path, 'web')}\n"
            "RUN echo from the farm >/www/index.html\n"
            'CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]\n'
        ),
    }
    for name, text in texts.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "Dockerfile").write_text(text)
    manifest = (small / "web.yaml").read_text()
    (folder / "web.yaml").write_text(manifest.replace("image: web", "image: farm-web"))
    (folder / "test_web.py").write_text(CASES)
    (folder / "pytest.ini").touch()
    yield folder
    forget_images(folder)


def word(folder: Path, image: str) -> str:
    return f"{image}-{folder.name}-{id(folder)}"


def declare(folder: Path, address: str, builder: Farm) -> None:
    text = DECLARATION.format(address=address, builder=builder.name)
    (folder / "kindinfra.toml").write_text(text)


def forget_images(folder: Path) -> None:
    """Remove what the runs in a folder named: the engine is that of another machine then."""
    names: set[str] = set()
    for file in folder.rglob("state/image-*.json"):
        image = json.loads(file.read_text())["value"]["image"]
        names |= {image["reference"], *image["contexts"]}
    subprocess.run(["docker", "image", "rm", "-f", *names], check=False, capture_output=True)


def test_each_image_is_built_once_and_workers_share_what_was_pushed(
    tmp_path: Path, project: Path, address: str
) -> None:
    reuse = ("-n", "4", "--kindinfra-reuse")
    steps = {name: word(tmp_path, name) for name in ("base", "web")}
    with farm() as builder, ExitStack() as cluster:
        declare(project, address, builder)
        cluster.callback(run_command, project, "down")

        first = run_pytest(project, *reuse)

        assert "4 passed" in first.output, first.output
        assert {name: builder.steps(text) for name, text in steps.items()} == {"base": 1, "web": 1}
        assert [one["subject"] for one in first.phases("push")] == ["farm-base", "farm-web"]
        # The cache was exported when all was up, and no test waited for it.
        exports = first.phases("export")
        assert [one["ok"] for one in exports] == [True, True], first.output
        assert exports[0]["start"] >= max(one["end"] for one in first.phases("wait"))

        # On another machine, nothing is built or pushed.
        forget_images(project)
        again = run_pytest(project, *reuse)

        assert "4 passed" in again.output, again.output
        assert (again.phases("build"), again.phases("push"), again.phases("export")) == ([], [], [])
        assert {name: builder.steps(text) for name, text in steps.items()} == {"base": 1, "web": 1}

        with refusing() as closed:
            refused = run_pytest(project, *reuse, f"--kindinfra-registry={closed}/farm")

        assert "4 errors" in refused.output, refused.output
        assert f'pushing "{closed}/farm/farm-base:' in refused.output
        assert f"exit code 1\n  $ docker push {closed}/farm/farm-base:" in refused.output
        assert f"To fix: `docker login {closed}` as a user who may pull and push" in refused.output


def test_a_builder_that_ends_is_named_with_what_to_do(project: Path, address: str) -> None:
    dockerfile = project / "base" / "Dockerfile"
    dockerfile.write_text(f"{dockerfile.read_text()}RUN sleep 9999\n")
    with farm() as builder:
        declare(project, address, builder)
        program = subprocess.Popen(
            [str(Path(sys.executable).with_name("kindinfra")), "build"],
            cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        until(lambda: builder.steps("sleep 9999"))
        docker("kill", builder.name)
        output, _ = program.communicate(timeout=LONGEST_WAIT)

        assert program.returncode == 1, output
        assert 'building image "farm-base": exit code 1' in output
        assert f"--builder {builder.name}" in output
        assert "the builder ended, or the connection to it, before the build did" in output
        assert "`docker buildx ls`" in output


def test_another_builder_takes_the_steps_from_the_exported_cache(
    tmp_path: Path, project: Path, address: str
) -> None:
    steps = [word(tmp_path, name) for name in ("base", "web")]
    with farm() as first:
        declare(project, address, first)
        built = run_command(project, "build")
        assert built.returncode == 0, built.stdout + built.stderr
        assert [first.steps(one) for one in steps] == [1, 1]
    forget_images(project)
    with farm() as second:
        declare(project, address, second)
        text = (project / "kindinfra.toml").read_text()
        (project / "kindinfra.toml").write_text(text.replace('/farm"', '/elsewhere"'))
        built = run_command(project, "build")
        assert built.returncode == 0, built.stdout + built.stderr
        assert [second.steps(one) for one in steps] == [0, 0]

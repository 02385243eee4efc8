"""Registries in containers: which is found, which is started, and when ours goes."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.engines import registry as container
from pytest_kindinfra.engines.registry import DockerRegistry, close_registry, open_registry
from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.model import Registry
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.system.runner import Completed
from tests.fakes import Argv, FakeProvider, FakeRegistries, FakeRunner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.timeline import Deadline

KNOWN = "/v2/library/redis/manifests/7-48f1635e4aa5"
CONFIG = f"sha256:{'48f1635e4aa5' * 5}0123"
MANIFEST = json.dumps({"schemaVersion": 2, "config": {"digest": CONFIG}}).encode()
DIGEST = f"sha256:{sha256(MANIFEST).hexdigest()}"


class Answers(BaseHTTPRequestHandler):
    """A registry as far as it is asked."""

    def do_GET(self) -> None:
        known = self.path == KNOWN and "oci.image.index" in self.headers["Accept"]
        self.send_response(200 if known or self.path == "/v2/" else 404)
        self.end_headers()
        self.wfile.write(MANIFEST if known else b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Engine:
    """`docker` with containers: name to what `docker inspect` says of it."""

    port: int
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuses: str = ""
    left: bool = False

    def __post_init__(self) -> None:
        self.runner = FakeRunner(self.answer)
        self.host = DockerRegistry(self.runner)

    def add(self, name: str, *networks: str, running: bool = True, inside: int = 5000) -> None:
        ports = {f"{inside}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.port)}]}
        self.containers[name] = {
            "Name": f"/{name}",
            "State": {"Running": running},
            "NetworkSettings": {
                "Ports": ports if running else {},
                "Networks": dict.fromkeys(networks),
            },
        }

    def answer(self, argv: Argv) -> str | Completed:
        match argv[1:]:
            case ("ps", *_):
                return "\n".join(name for name in self.containers if "control" not in name)
            case ("inspect", "--format", form, *names) if "Networks" in form:
                return json.dumps(self.containers[names[0]]["NetworkSettings"]["Networks"])
            case ("inspect", "--format", _, *names):
                return "\n".join(json.dumps(self.containers[name]) for name in names)
            case ("run", *_) if self.refuses:
                if self.left:
                    self.add(container.NAME, running=False)
                return Completed("", self.refuses, 125)
            case ("run" | "start", *_):
                self.add(container.NAME)
            case ("network", "connect", network, name):
                self.containers[name]["NetworkSettings"]["Networks"][network] = {}
        return ""


def ours(port: int) -> Registry:
    return Registry(container="kindinfra-registry", address=f"localhost:{port}", port=5000)


class TestOurs:
    def test_it_is_started_on_a_free_port_of_this_host_alone(
        self, port: int, soon: Deadline
    ) -> None:
        engine = Engine(port)

        assert engine.host.run(soon) == ours(port)
        (run,) = [argv for argv in engine.runner.argvs if argv[1] == "run"]
        assert run[:5] == ("docker", "run", "--detach", "--name", "kindinfra-registry")
        assert run[5:8] == ("--label", "dev.kindinfra.registry=true", "--publish")
        assert run[9:] == ("registry:2",)

    def test_its_port_is_named_since_docker_draws_another_when_it_joins_a_network(
        self, port: int, soon: Deadline
    ) -> None:
        engine = Engine(port)
        engine.host.run(soon)

        (run,) = [argv for argv in engine.runner.argvs if argv[1] == "run"]
        assert re.fullmatch(r"127\.0\.0\.1:2\d{4}:5000", run[8])

    def test_one_that_could_not_listen_is_not_left_behind(self, port: int, soon: Deadline) -> None:
        engine = Engine(port, refuses="port is already allocated", left=True)

        with pytest.raises(ClusterError, match="port is already allocated"):
            engine.host.run(soon)

        assert ("docker", "rm", "--volumes", "kindinfra-registry") in engine.runner.argvs

    def test_the_one_that_runs_is_shared(self, port: int, soon: Deadline) -> None:
        engine = Engine(port)
        engine.add("kindinfra-registry")

        assert engine.host.run(soon) == ours(port)
        assert not [argv for argv in engine.runner.argvs if argv[1] in {"run", "start"}]

    def test_one_that_was_stopped_is_started_again(self, port: int, soon: Deadline) -> None:
        engine = Engine(port)
        engine.add("kindinfra-registry", running=False)

        assert engine.host.run(soon) == ours(port)
        assert ("docker", "start", "kindinfra-registry") in engine.runner.argvs

    def test_an_image_that_cannot_be_had_is_told(self, port: int, soon: Deadline) -> None:
        engine = Engine(
            port, refuses="Unable to find image 'registry:2' locally\ndial tcp: timeout"
        )

        with pytest.raises(ClusterError) as caught:
            engine.host.run(soon)

        said = re.sub(r":2\d{4}:", ":PORT:", str(caught.value))
        assert said == (
            "a command failed: exit code 125\n"
            "  $ docker run --detach --name kindinfra-registry --label dev.kindinfra.registry=true"
            " --publish 127.0.0.1:PORT:5000 registry:2\n"
            "    Unable to find image 'registry:2' locally\n"
            "    dial tcp: timeout\n"
            "To fix: docker pull registry:2, or set your own registry in [cluster]"
        )

    def test_it_is_removed_with_what_it_holds(self, port: int, soon: Deadline) -> None:
        engine = Engine(port)
        engine.add("kindinfra-registry")

        assert engine.host.remove(soon)
        assert engine.runner.argvs[-1] == (
            "docker", "rm", "--force", "--volumes", "kindinfra-registry",
        )  # fmt: skip

    def test_where_there_is_none_nothing_is_removed(self, port: int, soon: Deadline) -> None:
        assert not Engine(port).host.remove(soon)


class TestTheUsers:
    def test_it_is_found_by_its_port(self, port: int, soon: Deadline) -> None:
        engine = Engine(port)
        engine.add("my-registry", inside=80)

        found = engine.host.find(f"localhost:{port}", soon)

        assert found == Registry(container="my-registry", address=f"localhost:{port}", port=80)
        assert f"publish={port}" in engine.runner.argvs[0]

    def test_that_there_is_none_is_told(self, soon: Deadline) -> None:
        with pytest.raises(ClusterError) as caught:
            Engine(5001).host.find("localhost:5001", soon)

        assert str(caught.value) == (
            '[cluster] registry = "localhost:5001": no container of the engine publishes this port'
            "\nTo fix: docker run --detach --publish=127.0.0.1:5001:5000 registry:2, or remove the"
            " key to use a registry that the plugin starts"
        )

    def test_that_it_asks_for_a_password_is_said_at_once(
        self, port: int, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def refuse(_address: str, path: str, _deadline: Deadline) -> tuple[int, bytes]:
            asked.append(path)
            return 401, b""

        monkeypatch.setattr(container, "_ask", refuse)
        engine = Engine(port)
        engine.add("my-registry")

        with pytest.raises(ClusterError) as caught:
            engine.host.find(f"localhost:{port}", soon)

        assert str(caught.value) == (
            f'the registry at "localhost:{port}" (container "my-registry") asks for a password,'
            " which kind nodes do not have\n"
            "To fix: use a registry of this host without a password, or remove the key"
        )
        assert asked == ["/v2/"]

    def test_that_it_does_not_answer_is_told(
        self, port: int, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(container, "_STARTS_IN", 0.0)
        monkeypatch.setattr(container, "_ask", lambda *_: (418, b""))
        engine = Engine(port)
        engine.add("my-registry")

        with pytest.raises(ClusterError) as caught:
            engine.host.find(f"localhost:{port}", soon)

        assert str(caught.value) == (
            f'the registry at "localhost:{port}" (container "my-registry") does not answer\n'
            "To fix: docker logs my-registry"
        )


class TestKindNodes:
    def test_one_gets_a_file_and_a_network_in_common(
        self, port: int, soon: Deadline, tmp_path: Path
    ) -> None:
        engine = Engine(port)
        engine.add("kindinfra-registry", "bridge")
        engine.add("k-control-plane", "kind")

        engine.host.open_to("k-control-plane", ours(port), tmp_path, soon)

        connect = ("docker", "network", "connect", "kind", "kindinfra-registry")
        copy = ("docker", "cp", f"{tmp_path}/certs.d", "k-control-plane:/etc/containerd/")
        assert engine.runner.argvs[-2:] == [connect, copy]
        file = tmp_path / "certs.d" / f"localhost:{port}" / "hosts.toml"
        assert file.read_text() == '[host."http://kindinfra-registry:5000"]\n'

    def test_a_network_that_it_is_in_is_not_joined_again(
        self, port: int, soon: Deadline, tmp_path: Path
    ) -> None:
        engine = Engine(port)
        engine.add("kindinfra-registry", "bridge", "kind")
        engine.add("k-control-plane", "kind")

        engine.host.open_to("k-control-plane", ours(port), tmp_path, soon)

        assert not [argv for argv in engine.runner.argvs if argv[1] == "network"]


@pytest.mark.parametrize(
    ("tag", "image_id", "digest"),
    [
        pytest.param("7-48f1635e4aa5", CONFIG, DIGEST, id="the engine's image by its config"),
        pytest.param("7-48f1635e4aa5", DIGEST, DIGEST, id="the engine's image by its manifest"),
        pytest.param("7-48f1635e4aa5", "sha256:other", None, id="the image of somebody else"),
        pytest.param("8-48f1635e4aa5", CONFIG, None, id="no image"),
    ],
)
def test_an_image_is_there_if_the_engines_own_is(
    port: int, soon: Deadline, tag: str, image_id: str, digest: str | None
) -> None:
    """What somebody else had pushed under the name was taken for the image of the run."""
    name = f"localhost:{port}/library/redis:{tag}"

    assert Engine(port).host.digest_of(name, image_id, soon) == digest


def test_a_registry_that_is_gone_has_nothing(soon: Deadline) -> None:
    assert Engine(1).host.digest_of("localhost:1/library/redis:7", CONFIG, soon) is None


class TestWhoUsesIt:
    @pytest.fixture
    def host(self) -> FakeRegistries:
        return FakeRegistries()

    def test_a_run_without_a_registry_of_its_own_gets_ours(
        self, host: FakeRegistries, soon: Deadline, tmp_path: Path
    ) -> None:
        found = open_registry(
            host, address=None, cache=tmp_path, run=tmp_path, say=print, deadline=soon
        )

        assert (found.container, host.there) == ("ours", True)

    def test_that_of_the_user_is_used_where_one_is_declared(
        self, host: FakeRegistries, soon: Deadline, tmp_path: Path
    ) -> None:
        found = open_registry(
            host, address=host.mine, cache=tmp_path, run=tmp_path, say=print, deadline=soon
        )

        assert (found.container, host.there) == ("mine", False)

    def test_it_stays_while_the_run_lives_that_used_it_last(
        self, host: FakeRegistries, soon: Deadline, run: RunDirectory, tmp_path: Path
    ) -> None:
        run.make()
        open_registry(host, address=None, cache=tmp_path, run=run.path, say=print, deadline=soon)
        lock = hold(run.lock)
        try:
            assert not close_registry(
                host, FakeProvider(), cache=tmp_path, say=print, deadline=soon
            )
        finally:
            lock.release()

        assert close_registry(host, FakeProvider(), cache=tmp_path, say=print, deadline=soon)
        assert not host.there

    def test_it_stays_while_a_cluster_of_ours_stands(
        self, host: FakeRegistries, soon: Deadline, tmp_path: Path
    ) -> None:
        host.there = True
        provider = FakeProvider(runs={"kept": tmp_path})

        assert not close_registry(host, provider, cache=tmp_path, say=print, deadline=soon)
        assert host.there

"""An engine on another host is told; one that cannot be read is not taken for such."""

from __future__ import annotations

import hashlib
import json
import socket
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.engines.docker import Docker
from pytest_kindinfra.engines.podman import Podman
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from pathlib import Path

DOCKER, PODMAN = Docker(FakeRunner()), Podman(FakeRunner())


@pytest.mark.parametrize(
    "url",
    [
        "tcp://docker:2375",
        "tcp://192.0.2.7:2376",
        "ssh://me@build.example.com",
        "https://192.0.2.7:2376",
        "tcp://[2001:db8::7]:2375",
    ],
)
@pytest.mark.parametrize(("engine", "name"), [(DOCKER, "DOCKER_HOST"), (PODMAN, "CONTAINER_HOST")])
def test_an_engine_on_another_host_is_named_with_its_source(
    url: str, engine: Docker | Podman, name: str
) -> None:
    problem = engine.host_problem({name: url}) or ""

    assert problem.startswith(f'{name}: the {engine.name} engine at "{url}" is on another host')
    assert "--kindinfra-kubeconfig" in problem


@pytest.mark.parametrize(
    "url",
    [
        "",
        "unix:///var/run/docker.sock",
        "unix:///Users/me/.docker/run/docker.sock",
        "npipe:////./pipe/docker_engine",
        "fd://",
        "tcp://127.0.0.1:2375",
        "tcp://localhost:2375",
        "tcp://[::1]:2375",
        "ssh://core@127.0.0.1:53685/run/user/501/podman/podman.sock",
        f"tcp://{socket.gethostbyname(socket.gethostname())}:2375",
    ],
)
def test_an_engine_of_this_host_is_none(url: str) -> None:
    assert DOCKER.host_problem({"DOCKER_HOST": url, "CONTAINER_HOST": url}) is None
    assert PODMAN.host_problem({"DOCKER_HOST": url, "CONTAINER_HOST": url}) is None


class TestContexts:
    def environ(self, folder: Path, host: str | None, *, name: str = "far") -> dict[str, str]:
        """Return an environment whose current context is `name`."""
        (folder / "config.json").write_text(json.dumps({"currentContext": name}))
        meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
        meta.mkdir(parents=True)
        if host is not None:
            about = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
            (meta / "meta.json").write_text(json.dumps(about))
        return {"DOCKER_CONFIG": str(folder)}

    def test_a_remote_one_is_told(self, tmp_path: Path) -> None:
        environ = self.environ(tmp_path, "ssh://me@192.0.2.7")

        problem = DOCKER.host_problem(environ) or ""

        assert problem.startswith('docker context "far": the docker engine at "ssh://me@192.0.2.7"')

    def test_that_of_docker_desktop_is_of_this_host(self, tmp_path: Path) -> None:
        environ = self.environ(tmp_path, "unix:///home/me/.docker/desktop/docker.sock")

        assert DOCKER.host_problem(environ) is None
        assert DOCKER.disk_root(environ) is None

    def test_one_that_cannot_be_read_is_not_taken_for_remote(self, tmp_path: Path) -> None:
        environ = self.environ(tmp_path, None)

        assert DOCKER.host_problem(environ) is None
        assert DOCKER.disk_root(environ) is None

    def test_docker_host_takes_precedence(self, tmp_path: Path) -> None:
        environ = self.environ(tmp_path, "ssh://me@192.0.2.7")

        assert DOCKER.host_problem({**environ, "DOCKER_HOST": "unix:///x.sock"}) is None

    def test_docker_context_takes_precedence_over_the_current_one(self, tmp_path: Path) -> None:
        environ = self.environ(tmp_path, "ssh://me@192.0.2.7")

        assert DOCKER.host_problem({**environ, "DOCKER_CONTEXT": "default"}) is None


def test_a_connection_of_podman_is_looked_up(tmp_path: Path) -> None:
    folder = tmp_path / "containers"
    folder.mkdir()
    far = {"Connections": {"far": {"URI": "ssh://me@192.0.2.7/run/podman.sock"}}}
    (folder / "podman-connections.json").write_text(json.dumps({"Connection": far}))
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "CONTAINER_CONNECTION": "far"}

    problem = PODMAN.host_problem(environ) or ""

    assert problem.startswith('podman connection "far" (CONTAINER_CONNECTION): the podman engine')
    assert PODMAN.host_problem({**environ, "CONTAINER_CONNECTION": "unknown"}) is None

"""A disk that cannot hold a cluster is told before the cluster is made."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.engines.docker import docker_root
from pytest_kindinfra.engines.podman import podman_root
from pytest_kindinfra.run.machine import NODE_BYTES, Room, disk_problem

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Have an engine whose disk has so much free; return its configuration file."""

    def make(free: int) -> Path:
        root = tmp_path / "data"
        daemon = tmp_path / "daemon.json"
        daemon.write_text(json.dumps({"data-root": str(root)}))

        def usage(path: Path) -> object:
            assert path == root
            return type(real)(real.total, real.total - free, free)

        monkeypatch.setattr("pytest_kindinfra.run.machine.shutil.disk_usage", usage)
        return daemon

    real = shutil.disk_usage(tmp_path)
    return make


def test_room_for_the_kind_nodes_is_enough(engine: Callable[[int], Path]) -> None:
    assert disk_problem(docker_root({}, daemon=engine(2 * NODE_BYTES)), nodes=2) is None


def test_a_disk_without_room_is_named_with_what_is_needed(
    engine: Callable[[int], Path], tmp_path: Path
) -> None:
    assert disk_problem(docker_root({}, daemon=engine(200_000_000)), nodes=1) == (
        f"the engine's disk ({tmp_path}/data) has 0.2 GB free, and 1 kind node alone takes "
        "0.6 GB; to fix: free some space, for example with kindinfra gc --images"
    )
    said = disk_problem(docker_root({}, daemon=engine(1_000_000_000)), nodes=3)
    assert said
    assert "1.0 GB free, and 3 kind nodes alone take 1.8 GB" in said


def test_room_for_images_counts_in_each_kind_node(
    engine: Callable[[int], Path], tmp_path: Path
) -> None:
    root = docker_root({}, daemon=engine(3_000_000_000))

    def problem(nodes: int, **room: int) -> str | None:
        return disk_problem(root, nodes=nodes, images=lambda: Room(**room))

    assert problem(1, in_node=2_000_000_000) is None
    assert problem(2, in_node=800_000_000, builds=200_000_000) is None
    assert problem(1, in_node=2_600_000_000) == (
        f"the engine's disk ({tmp_path}/data) has 3.0 GB free, and this run takes about 3.2 GB:"
        " 1 kind node with 0.6 GB, images of 2.6 GB in it, packed and unpacked; to fix: free"
        " some space, for example with kindinfra gc --images"
    )
    assert problem(2, in_node=1_000_000_000, builds=400_000_000) == (
        f"the engine's disk ({tmp_path}/data) has 3.0 GB free, and this run takes about 3.6 GB:"
        " 2 kind nodes with 0.6 GB each, images of 1.0 GB in each, packed and unpacked, builds of"
        " 0.4 GB; to fix: free some space, for example with kindinfra gc --images"
    )


def test_where_there_is_plenty_nobody_asks_for_sizes(engine: Callable[[int], Path]) -> None:
    def ask() -> Room:
        pytest.fail("asked")

    root = docker_root({}, daemon=engine(10**12))

    assert disk_problem(root, nodes=1, images=ask) is None


@pytest.mark.parametrize(
    "environ",
    [
        {"DOCKER_HOST": "tcp://build:2375"},
        {"DOCKER_HOST": "unix:///run/user/1000/docker.sock"},
        {"DOCKER_CONTEXT": "desktop-linux"},
    ],
)
def test_an_engine_elsewhere_is_not_judged(
    engine: Callable[[int], Path], environ: dict[str, str]
) -> None:
    assert disk_problem(docker_root(environ, daemon=engine(0)), nodes=1) is None


@pytest.mark.parametrize(
    ("text", "judged"),
    [('{"currentContext": "colima"}', 0), ('{"currentContext": "default"}', 1), ("[", 1)],
)
def test_the_context_of_dockers_configuration_counts(
    engine: Callable[[int], Path], tmp_path: Path, text: str, judged: int
) -> None:
    (tmp_path / "config.json").write_text(text)
    environ = {"DOCKER_CONFIG": str(tmp_path)}

    assert bool(disk_problem(docker_root(environ, daemon=engine(0)), nodes=1)) == judged


def test_a_folder_that_is_not_there_is_not_judged(tmp_path: Path) -> None:
    daemon = tmp_path / "daemon.json"
    daemon.write_text(json.dumps({"data-root": str(tmp_path / "nowhere")}))

    assert disk_problem(docker_root({}, daemon=daemon), nodes=1) is None


class TestPodman:
    def test_the_hosts_configuration_says_where_images_are(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        storage = tmp_path / "storage.conf"
        storage.write_text('[storage]\ndriver = "overlay"\ngraphroot = "/data/containers"\n')

        assert podman_root({}, storage=storage) == Path("/data/containers")

    @pytest.mark.parametrize("text", [None, "", "[storage\n"])
    def test_without_one_it_is_the_usual_place(
        self, text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        storage = tmp_path / "storage.conf"
        if text is not None:
            storage.write_text(text)

        assert podman_root({}, storage=storage) == Path("/var/lib/containers/storage")

    @pytest.mark.parametrize(
        ("environ", "root"),
        [
            ({"HOME": "/home/me"}, "/home/me/.local/share/containers/storage"),
            ({"HOME": "/home/me", "XDG_DATA_HOME": "/d"}, "/d/containers/storage"),
        ],
    )
    def test_without_root_it_is_in_the_users_folder(
        self, environ: dict[str, str], root: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)

        assert podman_root(environ) == Path(root)

    @pytest.mark.parametrize(
        "name", ["CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINERS_STORAGE_CONF"]
    )
    def test_podman_elsewhere_is_not_judged(self, name: str) -> None:
        root = podman_root({name: "x"})

        assert root is None
        assert disk_problem(root, nodes=100_000_000) is None

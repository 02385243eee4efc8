"""A disk that cannot hold a cluster is told before the cluster is made."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.diskspace import NODE_BYTES, disk_problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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

        monkeypatch.setattr("pytest_kindinfra.diskspace.shutil.disk_usage", usage)
        return daemon

    real = shutil.disk_usage(tmp_path)
    return make


def test_room_for_the_kind_nodes_is_enough(engine: Callable[[int], Path]) -> None:
    assert disk_problem(nodes=2, environ={}, daemon=engine(2 * NODE_BYTES)) is None


def test_a_disk_without_room_is_named_with_what_is_needed(
    engine: Callable[[int], Path], tmp_path: Path
) -> None:
    assert disk_problem(nodes=1, environ={}, daemon=engine(200_000_000)) == (
        f"the engine's disk ({tmp_path}/data) has 0.2 GB free, and 1 kind node alone takes "
        "0.6 GB; to fix: free some; `kindinfra gc --images` removes old images of ours"
    )
    said = disk_problem(nodes=3, environ={}, daemon=engine(1_000_000_000))
    assert said
    assert "1.0 GB free, and 3 kind nodes alone take 1.8 GB" in said


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
    assert disk_problem(nodes=1, environ=environ, daemon=engine(0)) is None


@pytest.mark.parametrize(
    ("text", "judged"),
    [('{"currentContext": "colima"}', 0), ('{"currentContext": "default"}', 1), ("[", 1)],
)
def test_the_context_of_dockers_configuration_counts(
    engine: Callable[[int], Path], tmp_path: Path, text: str, judged: int
) -> None:
    (tmp_path / "config.json").write_text(text)
    environ = {"DOCKER_CONFIG": str(tmp_path)}

    assert bool(disk_problem(nodes=1, environ=environ, daemon=engine(0))) == judged


def test_a_folder_that_is_not_there_is_not_judged(tmp_path: Path) -> None:
    daemon = tmp_path / "daemon.json"
    daemon.write_text(json.dumps({"data-root": str(tmp_path / "nowhere")}))

    assert disk_problem(nodes=1, environ={}, daemon=daemon) is None

"""Versions and machine in run.json."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra import __version__
from pytest_kindinfra.run.surroundings import machine, versions
from pytest_kindinfra.state.clusterrecords import KubernetesVersion
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.records import ProgramVersions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.make()
    return run


def test_what_the_bring_up_noted_and_what_runs_here(run: RunDirectory) -> None:
    run.write(ProgramVersions(engine="docker 28.0.0", kind="v0.31.0"))
    run.write(KubernetesVersion(version="v1.34.4"))
    (run.path / "kind-create.log").write_text(" • Ensuring node image (kindest/node:v1.34.4) ...")

    found = versions(run, node_image=None)

    assert found.pop("xdist")
    assert found == {
        "plugin": __version__,
        "pytest": pytest.__version__,
        "python": platform.python_version(),
        "engine": "docker 28.0.0",
        "kind": "v0.31.0",
        "kubernetes": "v1.34.4",
        "node_image": "kindest/node:v1.34.4",
    }


def test_what_is_not_known_is_none(run: RunDirectory) -> None:
    found = versions(run, node_image="mine:1")

    assert found["node_image"] == "mine:1"
    assert (found["kind"], found["engine"], found["kubernetes"]) == (None, None, None)


def test_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    found = machine()

    assert found["cpus"] == os.cpu_count()
    assert found["memory_bytes"] > 1 << 28
    assert found["ci"] is True
    assert found["architecture"] == platform.machine()

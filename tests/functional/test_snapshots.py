"""Runs whose engine keeps no snapshots: they go as they would without."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.functional.project import Project

TEST = """
import pytest


@pytest.mark.kindinfra("api")
def test_api(kindinfra): ...
"""


def test_an_engine_without_a_socket_is_said_and_the_cluster_boots(project: Project) -> None:
    """`docker` found its engine, the docker package does not."""
    project.service("api", image=True)
    project.tests(TEST)
    nowhere = f"unix://{project.folder / 'nowhere.sock'}"

    run = project.run(KINDINFRA_SNAPSHOT="auto", DOCKER_HOST=nowhere)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert "boots without a snapshot: the Docker engine: " in run.out
    assert len(run.calls("create")) == 1
    assert run.clusters == []


def test_with_snapshots_off_no_engine_is_asked_for_any(project: Project) -> None:
    project.service("api", image=True)
    project.tests(TEST)

    nowhere = f"unix://{project.folder / 'nowhere.sock'}"

    run = project.run("--kindinfra-snapshot=off", KINDINFRA_SNAPSHOT="auto", DOCKER_HOST=nowhere)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert "boots without a snapshot" not in run.out

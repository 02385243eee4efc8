"""What tests do with the stack, on a real cluster: in four workers, without xdist, and killed."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import NODE_IMAGE, ROOT, left_behind, run_command, run_pytest, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, whose runs share one cluster."""
    folder = tmp_path_factory.mktemp("project") / "in-tests"
    shutil.copytree(ROOT / "tests" / "e2e" / "in_tests", folder)
    yield folder
    run_command(folder, "down")
    assert left_behind(folder) == []


@pytest.mark.parametrize("workers", [4, 0])
def test_each_name_does_what_it_says(project: Path, workers: int) -> None:
    how = ["-n", "4"] if workers else ["-p", "no:xdist"]
    run = run_pytest(project, "cases.py", "--kindinfra-reuse", "--timeout=120", *how)

    assert run.exit_code == 0, run.output
    assert " failed" not in run.output


EXISTING = "kindinfra-e2e-in-tests"


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a kind cluster that was made by hand."""
    kubeconfig = tmp_path_factory.mktemp("cluster") / "kubeconfig"
    config = ("--kubeconfig", str(kubeconfig))
    create = ("create", "cluster", "--name", EXISTING, "--image", NODE_IMAGE, "--wait", "90s")
    try:
        subprocess.run(("kind", *create, *config), capture_output=True, timeout=300, check=True)
        yield kubeconfig
    finally:
        delete = ("kind", "delete", "cluster", "--name", EXISTING, *config)
        subprocess.run(delete, capture_output=True, timeout=120, check=True)


@pytest.mark.parametrize("workers", [4, 0])
def test_each_name_does_it_in_an_existing_cluster_too_and_leaves_nothing(
    project: Path, existing: Path, workers: int
) -> None:
    before = workloads(existing)
    how = ["-n", "4"] if workers else ["-p", "no:xdist"]
    run = run_pytest(
        project, "cases.py", f"--kindinfra-kubeconfig={existing}", "--timeout=120", *how
    )

    assert run.exit_code == 0, run.output
    assert " failed" not in run.output
    until(lambda: workloads(existing) == before)


def workloads(kubeconfig: Path) -> list[str]:
    """Return what runs in the cluster, and what of it was scaled."""
    kinds, columns = "deployments,jobs,services,configmaps", "custom-columns=:.kind,:.metadata.name"
    argv = ("kubectl", "--kubeconfig", str(kubeconfig), "get", kinds, "-A", "-o", columns)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return sorted(done.stdout.splitlines())


def test_what_killed_workers_changed_is_undone_before_the_next_test(project: Path) -> None:
    run = run_pytest(project, "killed_cases.py", "--kindinfra-reuse", "-n", "2", "--timeout=120")

    assert "3 failed, 3 passed" in run.output, run.output
    assert run.output.count("crashed while running") >= 3

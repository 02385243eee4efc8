"""What tests do with the stack and with their worker's services, on a real cluster.

In four workers, without xdist, in an existing cluster, killed, and while its API server is away.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT, left_behind, run_command, run_pytest, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CASES = ("cases.py", "per_worker_cases.py")


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
    run = run_pytest(project, *CASES, "--kindinfra-reuse", "--timeout=300", *spread(workers))

    assert run.exit_code == 0, run.output
    assert len(run.phases("load")) <= 1
    copies = {f"store.gw{number}" for number in range(workers)} or {"store"}
    assert {one for one in run.report["endpoints"] if one.startswith("store")} == copies


def test_what_killed_workers_changed_is_undone_before_the_next_test(project: Path) -> None:
    run = run_pytest(project, "killed_cases.py", "--kindinfra-reuse", "-n", "2", "--timeout=300")

    assert "3 failed, 3 passed" in run.output, run.output
    assert run.output.count("crashed while running") >= 3


def test_calls_outlast_an_api_server_that_is_away(project: Path) -> None:
    run = run_pytest(project, "away_cases.py", "--kindinfra-reuse", "--timeout=300", *spread(0))

    assert run.exit_code == 0, run.output
    assert "2 passed" in run.output


@pytest.fixture(scope="module")
def existing(project: Path) -> Iterator[Path]:
    """The kubeconfig of the same cluster, in which runs have another namespace."""
    assert run_command(project, "up", "web").returncode == 0
    (kubeconfig,) = (project / ".kindinfra" / "reused").glob("*/kubeconfig")
    texts = {
        project / name: (project / name).read_text() for name in ("kindinfra.toml", "store.yaml")
    }
    for file, text in texts.items():
        named = text.replace("[cluster]", '[cluster]\nnamespace = "e"')
        file.write_text(named.replace("namespace: default", "namespace: e"))
    yield kubeconfig
    for file, text in texts.items():
        file.write_text(text)


@pytest.mark.parametrize(("workers", "cases"), [(2, CASES), (0, CASES[:1])])
def test_each_name_does_it_in_an_existing_cluster_too_and_leaves_nothing(
    project: Path, existing: Path, workers: int, cases: tuple[str, ...]
) -> None:
    until(lambda: not ending(existing))  # of earlier tests
    before = workloads(existing)
    to = f"--kindinfra-kubeconfig={existing}"
    run = run_pytest(project, *cases, to, "--timeout=300", *spread(workers))

    assert run.exit_code == 0, run.output
    copies = {f"store.gw{number}" for number in range(workers)}
    assert {one for one in run.report["endpoints"] if one.startswith("store")} == copies
    until(lambda: workloads(existing) == before)


def spread(workers: int) -> tuple[str, ...]:
    return ("-n", str(workers)) if workers else ("-p", "no:xdist")


def ending(kubeconfig: Path) -> list[str]:
    """Return the namespaces that are being deleted, whose objects go one after another."""
    argv = ("kubectl", "--kubeconfig", str(kubeconfig), "get", "namespaces", "--no-headers")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return [line for line in done.stdout.splitlines() if "Terminating" in line]


def workloads(kubeconfig: Path) -> list[str]:
    """Return what runs in the cluster, and what of it was scaled."""
    kinds = "deployments,jobs,services,configmaps"
    columns = "custom-columns=:.kind,:.metadata.namespace,:.metadata.name,:.spec.replicas"
    argv = ("kubectl", "--kubeconfig", str(kubeconfig), "get", kinds, "-A", "-o", columns)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return sorted(done.stdout.splitlines())

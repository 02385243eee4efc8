"""Services per worker on real clusters: in four workers, without xdist, and in an existing one."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT, left_behind, run_command, run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, whose runs share one cluster."""
    folder = tmp_path_factory.mktemp("project") / "per-worker"
    shutil.copytree(ROOT / "tests" / "e2e" / "per_worker", folder)
    yield folder
    run_command(folder, "down")
    assert left_behind(folder) == []


@pytest.mark.parametrize("workers", [4, 0])
def test_every_helper_works_on_the_workers_own_copy(project: Path, workers: int) -> None:
    how = ["-n", "4"] if workers else ["-p", "no:xdist"]
    run = run_pytest(project, "cases.py", "--kindinfra-reuse", "--timeout=300", *how)

    assert run.exit_code == 0, run.output
    assert len(run.phases("load")) <= 1
    copies = {f"store.gw{number}" for number in range(workers)} or {"store"}
    assert {one for one in run.report["endpoints"] if one.startswith("store")} == copies


def test_they_work_in_an_existing_cluster_too(project: Path) -> None:
    run_command(project, "up", "front")
    (kubeconfig,) = (project / ".kindinfra" / "reused").glob("*/kubeconfig")
    text = (project / "kindinfra.toml").read_text()
    (project / "kindinfra.toml").write_text(text.replace("[cluster]", '[cluster]\nnamespace = "e"'))

    run = run_pytest(
        project, "cases.py", f"--kindinfra-kubeconfig={kubeconfig}", "-n", "2", "--timeout=300",
        "-k", "no_other_worker or steps or objects_of_a_test or scales",
    )  # fmt: skip

    assert run.exit_code == 0, run.output
    assert {"store.gw0", "store.gw1"} <= run.report["endpoints"].keys()

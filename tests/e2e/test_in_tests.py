"""What tests do with the stack, on a real cluster: in four workers, without xdist, and killed."""

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


def test_what_killed_workers_changed_is_undone_before_the_next_test(project: Path) -> None:
    run = run_pytest(project, "killed_cases.py", "--kindinfra-reuse", "-n", "2", "--timeout=120")

    assert "3 failed, 3 passed" in run.output, run.output
    assert run.output.count("crashed while running") >= 3

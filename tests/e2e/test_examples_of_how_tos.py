"""The examples of the how-tos about databases and coverage, on a real cluster."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT, left_behind, run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / request.param
    ignore = shutil.ignore_patterns(".kindinfra", "__pycache__")
    shutil.copytree(ROOT / "examples" / request.param, folder, ignore=ignore)
    yield folder
    assert left_behind(folder) == []


@pytest.mark.parametrize("example", ["databases"], indirect=True)
def test_each_test_has_a_database_of_its_own(example: Path) -> None:
    run = run_pytest(example, "-n", "2")

    assert run.exit_code == 0, run.output
    assert "17 passed" in run.output


@pytest.mark.parametrize("example", ["coverage"], indirect=True)
def test_the_coverage_of_pods_comes_out_at_the_end(example: Path) -> None:
    run = run_pytest(example, "-p", "no:xdist")

    assert run.exit_code == 0, run.output
    assert "2 passed" in run.output
    assert run.output.count("coverage") > 1, run.output

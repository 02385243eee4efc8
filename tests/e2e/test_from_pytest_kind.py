"""A suite written for pytest-kind, in one process, passes unchanged with four workers.

In one process it runs in tests/e2e/test_existing_cluster.py.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.e2e.runs import ROOT, left_behind, run_pytest

if TYPE_CHECKING:
    from pathlib import Path


def test_a_suite_for_pytest_kind_passes_with_four_workers(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    shutil.copytree(ROOT / "tests" / "e2e" / "from_pytest_kind", folder)
    (folder / "pytest.ini").touch()

    run = run_pytest(folder, "-n", "4", "suite_cases.py")

    assert "20 passed" in run.output, run.output
    assert left_behind(folder) == []

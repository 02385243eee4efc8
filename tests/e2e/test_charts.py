"""The examples of a chart and of a kustomization on real clusters, with helm 3 and helm 4."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.e2e.runs import ROOT, left_behind, run_pytest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HELM_4 = ROOT / ".tools" / "helm4"


def example(name: str, tmp_path: Path) -> Path:
    folder = tmp_path / name
    ignore = shutil.ignore_patterns(".kindinfra", "__pycache__")
    shutil.copytree(ROOT / "examples" / name, folder, ignore=ignore)
    return folder


def version() -> str:
    argv = ["helm", "version", "--template", "{{.Version}}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_the_chart_is_installed_by_the_helm_on_path(tmp_path: Path) -> None:
    folder = example("helm", tmp_path)

    run = run_pytest(folder)

    assert run.exit_code == 0, run.output
    assert "5 passed" in run.output
    assert left_behind(folder) == []


def test_the_kustomization_and_its_chart_are_there_with_helm_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{HELM_4}{os.pathsep}{os.environ['PATH']}")
    assert version().startswith("v4."), "make setup builds it"
    folder = example("kustomize", tmp_path)

    run = run_pytest(folder)

    assert run.exit_code == 0, run.output
    assert "3 passed" in run.output
    assert left_behind(folder) == []

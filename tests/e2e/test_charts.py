"""The examples of a chart and of a kustomization on real clusters, with helm 3 and helm 4."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT, Run, left_behind, run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HELM_4 = ROOT / ".tools" / "helm4"
BROKEN = Path(__file__).parent / "charts"
FEW_SECONDS = 60
"""helm by itself would wait for the image until the service's time is up: 600 s."""


def example(name: str, folder: Path) -> Path:
    ignore = shutil.ignore_patterns(".kindinfra", "__pycache__")
    shutil.copytree(ROOT / "examples" / name, folder / name, ignore=ignore)
    return folder / name


def version() -> str:
    argv = ["helm", "version", "--template", "{{.Version}}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def with_broken_ones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of the chart's example with two releases that cannot work beside, by helm on PATH."""
    folder = example("helm", tmp_path_factory.mktemp("charts"))
    shutil.copytree(BROKEN, folder / "broken")
    shutil.copy(BROKEN / "broken_cases.py", folder / "test_broken.py")
    with (folder / "kindinfra.toml").open("a") as file:
        file.write((BROKEN / "broken.toml").read_text())
    yield run_pytest(folder)
    assert left_behind(folder) == []


def cause(run: Run, service: str) -> str:
    """Return what the closing section says of a service."""
    _, _, text = run.output.partition(f'kindinfra: service "{service}" failed to start:\n')
    return text.partition("\nall of it")[0].partition("\n\nkindinfra: service")[0]


def test_the_chart_is_installed_by_the_helm_on_path(with_broken_ones: Run) -> None:
    assert "5 passed, 2 errors" in with_broken_ones.output, with_broken_ones.output


def test_a_hook_whose_image_cannot_be_pulled_ends_helm(with_broken_ones: Run) -> None:
    told = cause(with_broken_ones, "pull")

    head, why = told.splitlines()[:2]
    assert head == 'a hook of release "pull" failed for good, so helm was stopped:'
    assert 'Job "pull" cannot become ready' in why
    assert "ErrImagePull" in why or "ImagePullBackOff" in why
    phase = with_broken_ones.phase("deploy pull")
    assert phase["end"] - phase["start"] < FEW_SECONDS


def test_a_hook_that_fails_is_told_with_its_log(with_broken_ones: Run) -> None:
    told = cause(with_broken_ones, "job")

    assert 'release "job"' in told.splitlines()[0]
    assert "no such table" in told, told


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


@pytest.mark.parametrize("folder", [None, HELM_4], ids=["helm on PATH", "helm 4"])
def test_a_template_that_fails_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path | None
) -> None:
    monkeypatch.setenv("PATH", f"{folder or ''}{os.pathsep}{os.environ['PATH']}")
    shutil.copytree(BROKEN, tmp_path / "charts")
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "kindinfra.toml").write_text(
        '[services.bad]\nhelm = { chart = "charts/template" }\n'
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.kindinfra('bad')\ndef test_it(): ...\n"
    )

    run = run_pytest(tmp_path)

    assert run.exit_code == 4, run.output
    assert '[services.bad] rendering chart "template": exit code 1\n' in run.output
    assert "$ helm template bad " in run.output
    assert "image.tag is not set" in run.output

"""The scripts of examples/from-scripts, with real Docker and a real kind cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import LONGEST_RUN, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Path]:
    """A copy whose images nobody built yet."""
    folder = tmp_path / "example"
    ignore = shutil.ignore_patterns(".kindinfra", "__pycache__")
    shutil.copytree(ROOT / "examples" / "from-scripts", folder, ignore=ignore)
    (folder / "greeter" / "hello.txt").write_text(str(tmp_path))
    yield folder
    assert clusters_of(folder) == set()
    files = folder.rglob("state/image-*.json")
    images = [json.loads(file.read_text())["value"]["image"] for file in files]
    docker(
        "image", "rm", *{name for one in images for name in (one["reference"], *one["contexts"])}
    )


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    return done.stdout


def clusters_of(folder: Path) -> set[str]:
    """Return the clusters that scripts in this folder made and left."""
    made = {json.loads(file.read_text())["value"]["name"] for file in cluster_files(folder)}
    label = ["--filter", "label=io.x-k8s.kind.cluster"]
    there = docker("ps", "-a", *label, "--format", '{{.Label "io.x-k8s.kind.cluster"}}')
    return made & set(there.split())


def cluster_files(folder: Path) -> list[Path]:
    return list(folder.rglob("state/cluster-name.json"))


def run(script: str, *words: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, script, *words],
        cwd=folder, capture_output=True, text=True, timeout=LONGEST_RUN, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_writes_what_its_images_are_called(example: Path) -> None:
    run("references.py", "images.env", folder=example)

    written = (example / "images.env").read_text()
    references = dict(line.split("=") for line in written.split())
    assert list(references) == ["GREETER_IMAGE", "TEXTS_IMAGE"]


def test_a_script_brings_a_service_up_in_one_call_or_step_by_step(example: Path) -> None:
    one_call = run("check.py", folder=example)
    step_by_step = run("step_by_step.py", folder=example)

    assert "build greeter ended" in one_call
    assert f"the greeter says: {example.parent}" in one_call
    assert step_by_step == "the greeter says: bye\n"
    assert len(cluster_files(example)) == 2

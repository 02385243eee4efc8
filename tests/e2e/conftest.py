"""Runs of real pytest with real Docker and a real kind cluster; what they leave is checked."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Leave nothing in the cache folder of whoever runs this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        # What a run leaves for others must not decide how a test goes; test_snapshots.py asks.
        patch.setenv("KINDINFRA_SNAPSHOT", "off")
        yield


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example, with a mark in the shared base so that all images are new."""
    root = tmp_path_factory.mktemp("project")
    ignore = shutil.ignore_patterns(".kindinfra", "__pycache__", ".pytest_cache")
    shutil.copytree(ROOT / "examples", root / "examples", ignore=ignore)
    shutil.copytree(ROOT / "manifests", root / "manifests")
    folder = root / "examples" / "kubernaut-mini"
    dockerfile = folder / "services" / "base" / "Dockerfile"
    dockerfile.write_text(
        f"{dockerfile.read_text()}\nLABEL dev.kindinfra.e2e={root.name}-{id(root)}\n"
    )
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A copy of the small project: two services, one of them of a built image of its own."""
    folder = tmp_path / "small"
    shutil.copytree(ROOT / "tests" / "e2e" / "small", folder)
    (folder / "pytest.ini").touch()
    dockerfile = folder / "svc" / "Dockerfile"
    dockerfile.write_text(
        f"{dockerfile.read_text()}LABEL dev.kindinfra.e2e={tmp_path.name}-{id(folder)}\n"
    )
    yield folder
    for file in folder.rglob("state/image-*.json"):
        image = json.loads(file.read_text())["value"]["image"]
        names = [image["reference"], *image["contexts"]]
        subprocess.run(["docker", "image", "rm", "-f", *names], check=False, capture_output=True)

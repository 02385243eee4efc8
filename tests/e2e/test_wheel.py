"""The wheel as users get it: complete, and enough in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra import __version__
from tests.e2e.runs import ROOT

if TYPE_CHECKING:
    from email.message import Message
    from pathlib import Path

SECONDS = 600
"""For pip, with what it downloads."""


def run(*words: str | Path, **env: str) -> str:
    """Run a program outside of the project, whose folder must not be on sys.path."""
    done = subprocess.run(
        words, cwd="/", capture_output=True, text=True, timeout=SECONDS, check=False,
        env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT, check=True, capture_output=True, timeout=SECONDS,
    )  # fmt: skip
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the programs of an environment in which only the wheel was installed."""
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return folder / "bin"


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_index_would_take_it(wheel: Path) -> None:
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", wheel)


def test_it_has_the_data_files(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    files = ("py.typed", "run/timeline.html", "plan/kindinfra.schema.json")
    assert {f"pytest_kindinfra/{file}" for file in files} <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_its_classifiers_say_what_it_is_for(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classifiers = metadata.get_all("Classifier", [])
    start = "Programming Language :: Python :: 3."

    minors = sorted(int(one.removeprefix(start)) for one in classifiers if one.startswith(start))
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert metadata["Requires-Python"] == f">=3.{minors[0]}"
    assert {"Framework :: Pytest", "Operating System :: MacOS", "Typing :: Typed"} <= {*classifiers}
    assert set(metadata.get_all("Provides-Extra", [])) == project["optional-dependencies"].keys()


def test_pytest_has_the_options_where_plugins_are_not_loaded_by_themselves(
    programs: Path, tmp_path: Path
) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): ...\n")
    off = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    text = run(programs / "pytest", "-p", "kindinfra", "--help", **off)
    done = run(programs / "pytest", "-p", "kindinfra", "--rootdir", tmp_path, tmp_path, **off)

    assert "--kindinfra-reuse" in text
    assert "1 passed" in done
    assert "--kindinfra-reuse" not in run(programs / "pytest", "--help", **off)


def test_the_command_is_there(programs: Path) -> None:
    assert run(programs / "kindinfra", "--version") == f"kindinfra {__version__}\n"
    assert "No broken requirements found" in run(programs / "pip", "check")

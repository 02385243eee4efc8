"""The commands of the tutorial and of the README, as printed, on real clusters."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT, run_printed

if TYPE_CHECKING:
    from pathlib import Path

TUTORIAL = ROOT / "docs" / "tutorial.md"
README = ROOT / "README.md"
INSTALL = "pip install pytest-kindinfra[xdist]"
LARGER = "cd ../kubernaut-mini"
BREAKING = "echo 'RUN cat /no/such/file' >> web/Dockerfile"

_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.*)$", re.MULTILINE)
_EXIT = re.compile(r"^-- (\d+) exit (\d+)$", re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Return the commands of a page but the one that installs the plugin, which is tested here."""
    found = [
        line
        for block in _CONSOLE.findall(page.read_text("utf-8"))
        for line in _COMMAND.findall(block)
    ]
    assert INSTALL in found
    return [line for line in found if line != INSTALL]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of copied examples, whose images nobody built yet."""
    ignore = shutil.ignore_patterns(".kindinfra", "__pycache__", ".pytest_cache")
    for name in ("hello", "kubernaut-mini"):
        shutil.copytree(ROOT / "examples" / name, tmp_path / "examples" / name, ignore=ignore)
    shutil.copytree(ROOT / "manifests", tmp_path / "manifests")
    return tmp_path / "examples"


def run_all(lines: list[str], *, folder: Path) -> tuple[list[int], str]:
    """Run the lines in one shell; return their exit codes and all that they printed."""
    parts = [f"{line}\necho -- {number} exit $?\n" for number, line in enumerate(lines)]
    done = run_printed("".join(parts), folder=folder)
    return [int(code) for _, code in _EXIT.findall(done.stdout)], done.stdout + done.stderr


def test_the_commands_of_the_tutorial_do_what_it_says(folder: Path) -> None:
    lines = commands(TUTORIAL)[: commands(TUTORIAL).index(LARGER)]
    lines[lines.index("kindinfra doctor")] = "kindinfra doctor || test $? = 1"
    broken = lines.index(BREAKING) + 1

    codes, output = run_all(lines, folder=folder)

    assert codes == [1 if number == broken else 0 for number in range(len(lines))], output
    assert "cat: can't open '/no/such/file'" in output
    assert "1 passed, 1 error" in output


def test_the_commands_for_the_larger_system_run_all_of_it_and_a_part(folder: Path) -> None:
    lines = commands(TUTORIAL)[commands(TUTORIAL).index(LARGER) :]

    codes, output = run_all(["cd hello", *lines], folder=folder)

    assert codes == [0, 0, 0, 0], output
    assert "9 services from 5 images" in output
    assert "1 service from 0 images" in output


def test_the_command_of_the_readme_runs_its_example(folder: Path) -> None:
    codes, output = run_all(["cd hello", *commands(README)], folder=folder)

    assert codes == [0, 0], output
    assert "2 passed" in output

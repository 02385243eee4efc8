"""The shell lines of the recipes for CI, run on the example that the README shows."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.runs import ROOT, run_printed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = ("docs/ci/github.md", "docs/ci/gitlab.md")
_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OF_THE_CACHE = re.compile(
    r"((?:test ! -d pulled|(?:\.venv/bin/)?kindinfra pull) .*)$", re.MULTILINE
)
OF_THE_MACHINE = re.compile(r"pip\b.* install|-m venv")
"""Lines that a CI machine needs and this one has done."""


def recipes(page: str) -> list[dict[str, Any]]:
    """Return the YAML of a page that is a whole pipeline."""
    found = [yaml.safe_load(text) for text in _YAML.findall((ROOT / page).read_text("utf-8"))]
    return [one for one in found if isinstance(one, dict) and lines_of(one)]


def lines_of(recipe: dict[str, Any]) -> list[str]:
    """Return the shell lines of all jobs, in their order."""
    jobs = recipe.get("jobs", recipe)
    return [line for job in jobs.values() if isinstance(job, dict) for line in _lines(job)]


def _lines(job: dict[str, Any]) -> Iterator[str]:
    yield from (step["run"] for step in job.get("steps", ()) if "run" in step)
    yield from job.get("script", ())


def for_here(line: str) -> str:
    """Return a line for this machine: its Python, and all tests in place of a matrix."""
    line = line.replace(".venv/bin/", "").replace("${{ matrix.tests }}", ".")
    return line.replace('"$TESTS"', ".")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example."""
    ignore = shutil.ignore_patterns(".kindinfra", "__pycache__", ".pytest_cache")
    shutil.copytree(ROOT / "examples" / "hello", tmp_path / "hello", ignore=ignore)
    return tmp_path / "hello"


@pytest.mark.parametrize("page", PAGES)
def test_the_lines_of_a_recipe_pass(page: str, folder: Path) -> None:
    """The second recipe of each page builds in one job and tests in the next ones.

    test_snapshots.py runs the lines of those about snapshots.
    """
    one_job, two_jobs, *_ = recipes(page)
    lines = [*lines_of(one_job), *lines_of(two_jobs)]
    script = [for_here(line) for line in lines if not OF_THE_MACHINE.search(line)]

    done = run_printed("\n".join(["set -e", *script]), folder=folder)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("2 passed") == 2
    assert "saved 1 of 1 in images" in done.stdout
    assert (folder / "junit.xml").exists()


@pytest.mark.parametrize("page", PAGES)
def test_a_second_job_loads_the_images_that_the_first_one_pulled(page: str, folder: Path) -> None:
    """The folder is what the CI service keeps between the two."""
    load, pull = map(for_here, _OF_THE_CACHE.findall((ROOT / page).read_text("utf-8")))
    without_node_image = "unset KINDINFRA_NODE_IMAGE"  # it is large, and hello does not name one

    script = f"set -e\n{without_node_image}\n{load}\n{pull}\necho second\n{load}\n{pull}"
    done = run_printed(script, folder=folder)

    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.split("second\n")
    assert "busybox: saved in pulled/images/busybox.tar" in first
    assert "Loaded image" not in first
    assert "Loaded image: busybox:latest" in second

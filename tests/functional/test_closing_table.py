"""What is shown at the end of a run: all of it, less with -q, nothing with -qq."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.tests("@pytest.mark.kindinfra('api')\ndef test_it(): ...\n")
    project.behave("build api", seconds=0.5)
    project.behave("save", seconds=0.5)  # The path names steps of 0.2 s and more.
    return project


def test_the_total_names_the_critical_path(shop: Project) -> None:
    run = shop.run(workers=None)

    (line,) = run.lines("total: ")
    assert re.search(r"critical path: \w+ \w+ \d+\.\d, ", line)
    assert run.lines("phase     what")


def test_q_shortens_and_qq_is_silent(shop: Project) -> None:
    quiet, silent = shop.run("-q", workers=2), shop.run("-qq", workers=None)

    assert quiet.lines("total: ")
    assert quiet.lines("logs and details: ")
    assert quiet.lines("phase     what") == []
    assert silent.lines("total: ") == silent.lines("all of it") == []


def test_qq_shows_a_failure(shop: Project) -> None:
    shop.behave("build api", exit=1, complains="no compiler")

    run = shop.run("-qq", workers=None)

    assert run.lines('kindinfra: image "api" failed to build:')
    assert run.lines("logs and details: ")

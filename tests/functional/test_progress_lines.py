"""What is shown while work goes on stands on lines of its own, among the dots of tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

PROGRESS = re.compile(r"kindinfra +\d+\.\d s  \[[-a-z0-9./:]+\] .+")
TESTS = """
import time

@pytest.mark.parametrize("number", range(12))
def test_free(number):
    time.sleep(0.05)

@pytest.mark.parametrize("number", range(12))
@pytest.mark.kindinfra("api")
def test_api(number):
    time.sleep(0.05)

@pytest.mark.kindinfra("slow")
def test_slow(): ...
"""


def progress(run: Run) -> list[str]:
    """Return the lines of progress, each of which must be nothing else."""
    lines = [line for line in run.out.splitlines() if re.search(r"kindinfra +\d+\.\d s", line)]
    garbled = [line for line in lines if not PROGRESS.fullmatch(line)]
    assert garbled == [], run.out
    return [line.partition("s  ")[2] for line in lines]


@pytest.fixture
def slow(project: Project) -> Project:
    project.service("api", image=True)
    project.service("slow", image=True)
    project.behave("build slow", seconds=0.8)
    project.behave("create", seconds=0.3)
    project.tests(TESTS)
    return project


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [((), None), (("-v",), None), ((), 2), (("-v",), 2), (("-q",), 2), (("-s",), 0)],
    ids=["dots", "verbose", "dots of workers", "verbose workers", "quiet", "uncaptured"],
)
def test_each_line_of_progress_stands_alone(
    slow: Project, arguments: tuple[str, ...], workers: int | None
) -> None:
    run = slow.run(*arguments, workers=workers)

    assert run.code == 0, run.text
    told = progress(run)
    for what in ("[cluster] cluster created in", "[api] built in", "[slow] ready in",
                 "[cluster] cluster deleted in"):  # fmt: skip
        assert sum(line.startswith(what) for line in told) == 1, (what, told)
    if "-v" not in arguments:
        dots = [
            line for line in run.out.splitlines() if re.fullmatch(r"(test_it.py )?\.+( .*)?", line)
        ]
        assert sum(line.count(".") - line.count(".py") for line in dots) == 25, run.out


def test_plain_says_what_begins_as_well(slow: Project) -> None:
    told = progress(slow.run("--kindinfra-progress=plain", workers=2))

    kinds = [line.partition(" in ")[0] for line in told]
    for begun, ended in (
        ("[slow] building", "[slow] built"),
        ("[cluster] creating the cluster", "[cluster] cluster created"),
    ):
        assert kinds.index(begun) < kinds.index(ended)


def test_off_says_nothing_meanwhile(slow: Project) -> None:
    run = slow.run("--kindinfra-progress=off", workers=2)

    assert run.code == 0
    assert progress(run) == []
    assert run.lines("builds: ")


def test_the_need_is_said_once_and_the_table_closes(slow: Project) -> None:
    for what in ("build api", "delete"):
        slow.behave(what, seconds=0.3)  # shorter phases share a row

    run = slow.run(workers=2)

    (line,) = run.lines("13 tests need 2 services from 2 images, cluster kindinfra-")
    assert line.startswith("kindinfra: ")
    table = run.out.partition("= kindinfra =")[2]
    rows = [line.split()[:2] for line in table.splitlines()]
    for row in ("create cluster", "build api", "build slow", "delete cluster"):
        assert rows.count(row.split()) == 1, run.out


def test_no_line_is_lost_or_garbled_while_many_dots_are_written(project: Project) -> None:
    names = [f"service-{number}" for number in range(12)]
    for name in names:
        project.service(name)
    project.tests(f"""
        @pytest.mark.parametrize("number", range(1500))
        def test_free(number): ...

        @pytest.mark.kindinfra(*{names})
        def test_all(): ...
    """)

    run = project.run("--kindinfra-progress=plain", workers=2)

    assert run.code == 0, run.text
    kinds = [line.partition(" in ")[0] for line in progress(run)]
    for name in names:
        for words in ("applying", "applied", "waiting until ready", "ready"):
            assert kinds.count(f"[{name}] {words}") == 1, (name, words)

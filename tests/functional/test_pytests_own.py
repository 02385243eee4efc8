"""pytest's own options and plugins, switched on and off."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

TESTS = """
@pytest.mark.kindinfra("api")
def test_api(): ...

@pytest.mark.kindinfra("store")
def test_store(): ...

@pytest.mark.kindinfra("api")
def test_last(kindinfra): assert kindinfra.url("api")
"""


@pytest.fixture
def broken(project: Project) -> Project:
    return with_broken_store(project)


def with_broken_store(project: Project) -> Project:
    project.service("api")
    project.service("store", image=True)
    project.behave("build store", exit=3, complains="ERROR: the compiler gave up")
    project.tests(TESTS)
    return project


def order_of(run: Run) -> list[str]:
    return [what for what, *_ in run.notes if what.startswith("start")]


@pytest.mark.parametrize(
    ("again", "order"),
    [
        pytest.param("--lf", ["start test_store"], id="--lf"),
        pytest.param("--ff", ["start test_store", "start test_api", "start test_last"], id="--ff"),
        pytest.param("--sw", ["start test_store", "start test_last"], id="--sw"),
    ],
)
def test_a_service_that_failed_counts_as_a_failed_test_in_the_next_run(
    broken: Project, again: str, order: list[str]
) -> None:
    first = broken.run(*(["--sw"] if again == "--sw" else []), workers=None)
    broken.behave("build store")
    second = broken.run(again, workers=None)

    assert first.outcomes["errors"] == 1, first.text
    assert second.code == 0, second.text
    assert order_of(second) == order
    assert second.deployed == (["store"] if again == "--lf" else ["api", "store"])


@pytest.mark.parametrize("workers", [None, 2])
def test_it_works_without_a_terminal(broken: Project, workers: int | None) -> None:
    run = broken.run("-p", "no:terminal", workers=workers)

    assert (run.code, run.text.strip()) == (1, "")
    assert sorted(order_of(run)) == ["start test_api", "start test_last"]
    assert run.report["outcome"]["failures"].keys() == {"store"}
    assert len(run.calls("create")) == len(run.calls("delete")) == 1


def test_setup_only_brings_up_and_calls_no_test(broken: Project) -> None:
    run = broken.run("--setup-only", workers=None)

    assert (run.code, order_of(run)) == (1, []), run.text
    assert run.lines("SETUP    S kindinfra")
    assert run.deployed == ["api"]
    assert len(run.calls("create")) == len(run.calls("delete")) == 1


def quiet(project: Project) -> Run:
    options = ("-q", "-p", "no:cacheprovider", "--durations=3", "--junitxml=.kindinfra/junit.xml")
    return with_broken_store(project).run(*options, workers=2)


@pytest.fixture
def in_quiet(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(quiet)


def test_a_quiet_run_still_tells_the_cause_in_full_once(in_quiet: Run) -> None:
    assert in_quiet.code == 1, in_quiet.text
    assert len(in_quiet.lines('kindinfra: image "store" failed')) == 1
    assert in_quiet.lines("slowest 3 durations")


def test_junit_xml_has_an_error_with_the_short_cause(in_quiet: Run) -> None:
    text = (Path(in_quiet.folder).parent / "junit.xml").read_text()
    (suite,) = ET.fromstring(text)  # noqa: S314 - pytest's own file
    (error,) = suite.iter("error")

    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("3", "1", "0")
    lines = (error.text or "").splitlines()
    assert lines[0] == 'service "store" failed to start: image "store" failed to build:'
    assert lines[-2:] == ["    ERROR: the compiler gave up", f"logs and details: {in_quiet.folder}"]


def test_the_mark_and_the_fixtures_are_listed_with_what_they_do(project: Project) -> None:
    project.tests(TESTS)

    marks = project.run("--markers", workers=None)
    fixtures = project.run("--fixtures", workers=None)

    assert marks.lines("@pytest.mark.kindinfra(*services): the services on the kind cluster")
    for name in ("kindinfra", "kubeconfig", "kind_cluster", "kindinfra_namespace"):
        assert any(line.startswith(name) for line in fixtures.lines("given.py:")), fixtures.out
    assert fixtures.all_calls == []

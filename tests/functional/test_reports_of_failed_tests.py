"""A failed test's report has what the stack's pods said and did since its start, and no secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.fake_kubernetes import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

SECRET = "sesame-open-4711"
OLD = "2020-01-01T00:00:00.5Z"
LOG = f"{OLD} said long ago\nGET /orders 500\nthe password is {SECRET}\ntoken: {TOKEN}"
TESTS = """
import kubernetes

@pytest.mark.kindinfra("api")
def test_fails():
    assert False, "as it should"

@pytest.mark.kindinfra("api")
def test_passes(): ...

@pytest.mark.kindinfra("db")
def test_of_another_service():
    raise ValueError

@pytest.fixture
def broken():
    raise LookupError

@pytest.mark.kindinfra("api")
def test_of_a_broken_fixture(broken): ...

def test_with_a_namespace(kindinfra_namespace):
    note("failed " + kindinfra_namespace)
    assert False

def test_passes_with_a_namespace(kindinfra_namespace):
    note("passed " + kindinfra_namespace)

def test_needs_nothing():
    assert False
"""


def failing(project: Project) -> Project:
    project.service("api", image=True)
    project.declare('[images.other]\ncontext = "api"\nbuild_args = { A_TOKEN = "${A_TOKEN}" }\n')
    project.service("db")
    project.clusters.logs["api"] = LOG
    project.clusters.logs["db"] = "".join(f"line {number} of db\n" for number in range(200))
    project.tests(TESTS)
    return project


def with_workers(project: Project) -> Run:
    return failing(project).run("--kindinfra-keep=on-failure", workers=2, A_TOKEN=SECRET)


@pytest.fixture
def told(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(with_workers)


def report_of(run: Run, test: str) -> str:
    """Return what is printed below the heading of a failed test."""
    text = run.out.partition(f" {test} ___")[2]
    return re.split(r"^_{3,} (?:ERROR at \w+ of )?test_|^={3,} ", text, flags=re.MULTILINE)[0]


def section(report: str, title: str) -> list[str]:
    text = rf"^-+ kindinfra {title} -+\n(.*?)(?=^-{{3,}} |\Z)"
    found = re.search(text, report, re.MULTILINE | re.DOTALL)
    assert found, report
    return found[1].strip().splitlines()


def test_the_logs_since_the_tests_start_are_in_its_report(told: Run) -> None:
    log = section(report_of(told, "test_fails"), "log of api-1-0/api")

    assert log[0] == "GET /orders 500"
    assert "said long ago" not in told.out


def test_there_is_no_secret_in_it(told: Run) -> None:
    log = section(report_of(told, "test_fails"), "log of api-1-0/api")

    assert log[1:] == ["the password is ***", "token: ***"]
    assert SECRET not in told.text
    assert TOKEN not in told.text


def test_logs_are_bounded_and_those_of_named_services_come_first(told: Run) -> None:
    report = report_of(told, "test_of_another_service")

    assert section(report, "log of db-1-0/db") == [
        "(more was left out)", *(f"line {number} of db" for number in range(150, 200))
    ]  # fmt: skip
    assert report.index("log of db") < report.index("log of api")


def test_a_failing_fixture_counts_as_well(told: Run) -> None:
    report = report_of(told, "ERROR at setup of test_of_a_broken_fixture")

    assert section(report, "log of api-1-0/api")[0] == "GET /orders 500"


def test_others_reports_have_nothing_of_it(told: Run) -> None:
    assert "kindinfra log" not in report_of(told, "test_needs_nothing")
    assert told.outcomes == {"failed": 4, "passed": 2, "errors": 1}


def test_the_namespace_of_a_failed_test_stays_with_the_cluster(told: Run) -> None:
    names = dict(what.split() for what, _, _ in told.notes if "ed test-" in what)

    assert ("DELETE", f"/api/v1/namespaces/{names['passed']}") in told.requests
    assert ("DELETE", f"/api/v1/namespaces/{names['failed']}") not in told.requests


def test_all_of_it_can_be_switched_off(project: Project) -> None:
    run = failing(project).run("--kindinfra-logs=off", workers=None, A_TOKEN=SECRET)

    names = dict(what.split() for what, _, _ in run.notes if "ed test-" in what)
    assert "kindinfra log" not in run.out
    assert not any(path.endswith("/log") and "kube" in path for _, path in run.requests)
    assert ("DELETE", f"/api/v1/namespaces/{names['failed']}") in run.requests, "the cluster goes"

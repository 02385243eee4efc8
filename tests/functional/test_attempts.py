"""`attempts/TEST_ID/N/`: what is kept of each failed attempt of a test, and who links to it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fake_kubernetes import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

TESTS = """
import kubernetes

@pytest.mark.kindinfra("api")
def test_fails(request):
    assert False, "as it should"

@pytest.mark.kindinfra("api")
def test_passes(): ...

@pytest.mark.kindinfra
def test_of_the_bare_cluster(kindinfra_namespace):
    assert False

@pytest.fixture
def broken():
    yield
    raise LookupError

@pytest.mark.kindinfra("api")
def test_fails_twice(broken):
    assert False

def test_needs_nothing():
    assert False
"""


def shop(project: Project) -> Project:
    project.service("db")
    project.service("api", needs=("db",))
    project.service("other")
    lines = "".join(f"line {number} of api\n" for number in range(200))
    project.clusters.logs["api"] = f"{lines}token: {TOKEN}\n"
    project.clusters.logs["db"] = "SELECT 1\n"
    project.clusters.logs["other"] = "other's\n"
    project.tests(TESTS + "@pytest.mark.kindinfra('other')\ndef test_other(): ...\n")
    return project


def failed_run(project: Project) -> Run:
    return shop(project).run("--junitxml=junit.xml", workers=2)


@pytest.fixture
def failed(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(failed_run)


def attempts(run: Run, test: str) -> list[Path]:
    """Return the folders of the failed attempts of a test."""
    return sorted(Path(run.folder, "attempts").glob(f"*-{test}-????????/*"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def data_of(run: Run) -> dict[str, Any]:
    page = (Path(run.folder) / "timeline.html").read_text()
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_logs_of_the_tests_services_and_of_their_needs_are_kept(failed: Run) -> None:
    (folder,) = attempts(failed, "test_fails")

    assert names(folder) == ["default.api-1-0.api.log", "default.db-1-0.db.log", "failure-call.txt"]
    assert (folder / "default.db-1-0.db.log").read_text() == "SELECT 1\n"
    assert "as it should" in (folder / "failure-call.txt").read_text()


def test_more_than_the_report_shows_is_kept_and_no_secret(failed: Run) -> None:
    (folder,) = attempts(failed, "test_fails")

    lines = (folder / "default.api-1-0.api.log").read_text().splitlines()

    assert lines[0] == "line 0 of api"
    assert lines[-1] == "token: ***"
    assert TOKEN not in "".join(path.read_text() for path in folder.iterdir())


def test_they_are_for_their_owner_to_read_only(failed: Run) -> None:
    (folder,) = attempts(failed, "test_fails")

    modes = {path.stat().st_mode & 0o777 for path in (folder, folder.parent)}
    assert modes == {0o700}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_to_a_test_that_names_no_service_all_belong(failed: Run) -> None:
    (folder,) = attempts(failed, "test_of_the_bare_cluster")

    assert "default.other-1-0.other.log" in names(folder)


def test_a_test_that_fails_in_two_phases_has_one_folder(failed: Run) -> None:
    (folder,) = attempts(failed, "test_fails_twice")

    texts = {"failure-call.txt", "failure-teardown.txt"}
    assert texts <= set(names(folder))


def test_tests_that_pass_or_need_nothing_have_none(failed: Run) -> None:
    assert attempts(failed, "test_passes") == attempts(failed, "test_needs_nothing") == []


def test_the_report_junit_and_the_timeline_lead_to_it(failed: Run) -> None:
    (folder,) = attempts(failed, "test_fails")
    report = failed.out.partition(" test_fails ___")[2].partition("\n____")[0]
    bars = [bar for row in data_of(failed)["rows"] for bar in row["bars"]]
    (bar,) = (one for one in bars if one["title"].endswith("::test_fails") and not one["setup"])

    assert re.search(rf"^-+ kindinfra evidence -+\n{re.escape(str(folder))}$", report, re.MULTILINE)
    assert bar["logs"] == [f"{folder.relative_to(failed.folder)}/{name}" for name in names(folder)]
    assert "attempts" in data_of(failed)["files"]


def test_the_step_summary_of_github_names_the_folder(project: Project) -> None:
    summary = project.folder / "summary.md"
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}

    run = shop(project).run(workers=2, GITHUB_WORKSPACE=str(project.folder), **environment)

    for test in ("test_fails", "test_of_the_bare_cluster"):
        (folder,) = attempts(run, test)
        named = f"`{folder.relative_to(project.folder)}/`"
        cause = summary.read_text().partition(f"::{test} (")[2].partition("</details>")[0]
        assert cause.rstrip().endswith(f"Logs, events and failure: {named}")
    assert "Logs" not in summary.read_text().partition("::test_needs_nothing")[2].split("</det")[0]


def test_each_failed_attempt_of_a_repeated_test_has_its_own(project: Project) -> None:
    shop(project).tests("""
        @pytest.mark.kindinfra("api")
        def test_flaky():
            count = os.path.getsize("tries") if os.path.exists("tries") else 0
            with open("tries", "a") as file:
                file.write("x")
            assert count == 2, f"try {count}"
    """)

    run = project.run(
        "-p", "rerunfailures", "--reruns=3", "--junitxml=junit.xml", workers=1
    )  # fmt: skip

    first, second = attempts(run, "test_flaky")
    assert run.outcomes == {"passed": 1, "rerun": 2}
    assert (first.name, second.name) == ("1", "2")
    assert "try 0" in (first / "failure-call.txt").read_text()
    assert "try 1" in (second / "failure-call.txt").read_text()
    assert evidence_of(project, "test_flaky") == [str(first), str(second), run.folder]


def evidence_of(project: Project, test: str) -> list[str | None]:
    """Return what JUnit's XML says of each attempt of a test."""
    cases = ET.parse(project.folder / "junit.xml").getroot().iter("testcase")  # noqa: S314 - our own
    found = (case.iter("property") for case in cases if case.get("name") == test)
    return [
        one.get("value")
        for properties in found
        for one in properties
        if one.get("name") == "kindinfra_evidence"
    ]


def test_junit_leads_to_the_attempt_that_counts(project: Project) -> None:
    run = failed_run(project)

    (folder,) = attempts(run, "test_fails")
    assert evidence_of(project, "test_fails") == [str(folder)]
    assert evidence_of(project, "test_passes") == [run.folder]


def test_a_run_keeps_no_more_than_a_hundred(project: Project) -> None:
    project.service("api")
    project.tests("""
        @pytest.mark.parametrize("number", range(103))
        @pytest.mark.kindinfra("api")
        def test_it(number):
            assert False
    """)

    run = project.run("--tb=short", workers=None)

    assert len(list(Path(run.folder, "attempts").glob("*/*"))) == 100
    assert run.text.count("not kept: 100 failed attempts of this run are in ") == 3


def test_nothing_is_kept_without_logs(project: Project) -> None:
    run = shop(project).run("--kindinfra-logs=off", workers=None)

    assert not Path(run.folder, "attempts").exists()

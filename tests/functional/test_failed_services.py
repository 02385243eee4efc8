"""A failure concerns just what needs it, is told in full once, and is never tried again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

OUTPUT = "\n".join(f"step {number} of 30" for number in range(1, 31))
CRASHING = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
    "ready": False,
    "restartCount": 3,
}
TESTS = """
@pytest.mark.parametrize("number", range(3))
@pytest.mark.kindinfra("store")
def test_store(number): ...

@pytest.mark.kindinfra("front")
def test_front(): ...

@pytest.mark.kindinfra("crasher")
def test_crasher(): ...

@pytest.mark.parametrize("number", range(2))
@pytest.mark.kindinfra("other")
def test_other(number): ...

def test_free(): ...
"""


def partly_failing(project: Project) -> Run:
    project.service("store", image=True)
    project.service("api", image=True, needs=("store",))
    project.service("front", needs=("api",))
    project.service("crasher")
    project.service("other", image=True)
    project.behave("build store", exit=3, says=OUTPUT, complains="ERROR: the compiler gave up")
    project.breaks("crasher", CRASHING)
    project.tests(TESTS)
    return project.run(workers=4)


@pytest.fixture
def failed(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(partly_failing)


def error_of(run: Run, test: str) -> list[str]:
    """Return the lines of a test's error, without its headings."""
    heads = r"(?m)^(?:_{3,}|={3,}) (.*) (?:_{3,}|={3,})$"
    _, *parts = re.split(heads, run.out)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    lines = sections[f"ERROR at setup of {test}"].strip().splitlines()
    return [line for line in lines if not line.startswith("[gw")]


def test_tests_of_other_services_pass(failed: Run) -> None:
    assert (failed.code, failed.outcomes) == (1, {"passed": 3, "errors": 5}), failed.text


def test_a_failed_build_is_not_tried_again(failed: Run) -> None:
    assert failed.built == ["api", "other", "store"]
    assert failed.deployed == ["crasher", "other"]


@pytest.mark.parametrize(
    "test", ["test_store[0]", "test_store[1]", "test_store[2]", "test_front", "test_crasher"]
)
def test_each_dependent_test_shows_at_most_six_lines(failed: Run, test: str) -> None:
    lines = error_of(failed, test)

    assert 1 <= len(lines) <= 6, lines


def test_all_tests_of_a_service_show_the_same_error(failed: Run) -> None:
    told = {tuple(error_of(failed, f"test_store[{number}]")) for number in range(3)}

    assert len(told) == 1
    assert 'service "store" failed to start' in "\n".join(*told)
    assert "the compiler gave up" in "\n".join(*told)


def test_a_service_that_was_not_started_names_the_root_cause(failed: Run) -> None:
    told = "\n".join(error_of(failed, "test_front"))

    assert 'service "front" failed to start: image "store" failed to build' in told
    assert "the compiler gave up" in told


def test_a_crashed_service_is_reported_with_its_exit_code(failed: Run) -> None:
    assert "exit code 3" in "\n".join(error_of(failed, "test_crasher"))


@pytest.mark.parametrize("line", ['kindinfra: image "store" failed to build', "step 20 of 30"])
def test_the_cause_is_printed_in_full_once(failed: Run, line: str) -> None:
    assert len(failed.lines(line)) == 1, failed.out


def test_the_closing_lines_say_what_was_not_started(failed: Run) -> None:
    (line,) = failed.lines("not started because of it")

    assert sorted(re.findall(r"\w+", line.partition(":")[2])) == ["api", "front", "store"]


def test_the_report_says_that_it_failed(failed: Run) -> None:
    outcome = failed.report["outcome"]

    assert outcome["state"] == "failed"
    assert set(outcome["failures"]) == {"store", "api", "front", "crasher"}
    phases = {phase["name"]: phase["ok"] for phase in failed.report["phases"]}
    assert phases["build store"] is False
    assert phases["build api"] is True


def test_evidence_is_kept_before_the_cluster_is_deleted_once(failed: Run) -> None:
    folder = Path(failed.folder)

    assert (folder / "build" / "store.log").read_text().startswith("step 1 of 30")
    assert (folder / "kind" / "journal.log").is_file()
    pods = [json.loads(path.read_text()) for path in (folder / "pods").glob("*.json")]
    assert any(pod["metadata"]["labels"]["app"] == "crasher" for pod in pods)
    assert (failed.call("export").end or 0) <= failed.call("delete").start
    assert failed.clusters == []


def test_without_workers_a_failure_is_remembered_too(project: Project) -> None:
    project.service("store", image=True)
    project.behave("build store", exit=3, complains="ERROR: the compiler gave up")
    project.tests(TESTS.partition('@pytest.mark.kindinfra("front")')[0])

    run = project.run(workers=None)

    assert (run.code, run.outcomes) == (1, {"errors": 3}), run.text
    assert run.built == ["store"]


def test_a_hook_that_raises_fails_its_service_only(project: Project) -> None:
    project.service("store")
    project.service("other")
    conftest = (project.folder / "conftest.py").read_text()
    project.write(
        "conftest.py",
        f"""{conftest}
def pytest_kindinfra_before_deploy(stack, service):
    if service.name == "store":
        raise ValueError("no seeds for it")
""",
    )
    project.tests("""
        @pytest.mark.kindinfra("store")
        def test_store(): ...

        @pytest.mark.kindinfra("other")
        def test_other(): ...
    """)

    run = project.run()

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 1}), run.text
    assert "no seeds for it" in "\n".join(error_of(run, "test_store"))


def test_a_trouble_that_may_pass_is_a_failure_after_the_patience_of_its_service(
    project: Project,
) -> None:
    missing = {"reason": "CreateContainerConfigError", "message": 'secret "late" not found'}
    project.service("short", toml="patience = 1\ntimeout = 60")
    project.service("long", toml="timeout = 3")
    for name in ("short", "long"):
        project.breaks(name, {"state": {"waiting": missing}, "ready": False, "restartCount": 0})
    project.tests("""
        @pytest.mark.kindinfra("short")
        def test_short(): ...

        @pytest.mark.kindinfra("long")
        def test_long(): ...
    """)

    run = project.run()

    assert (run.code, run.outcomes) == (1, {"errors": 2}), run.text
    short, long = (
        re.sub(r"\s+", " ", run.out.partition(f'kindinfra: service "{name}" failed to start:')[2])
        for name in ("short", "long")
    )
    assert "s, the limit of `patience = 1`" in short
    assert "raise `patience` of the service to wait longer" in short
    assert re.search(r'CreateContainerConfigError for \d s: secret "late" not found', long)
    assert "To fix: add what is missing to the service's manifests" in long

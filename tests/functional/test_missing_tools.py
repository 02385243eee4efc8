"""Without an engine or kind tests fail, or are skipped if that was asked for; never silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

SKIP = "--kindinfra-missing=skip"
TESTS = """
@pytest.mark.kindinfra("store")
def test_store(): ...

def test_cluster(kind_cluster): ...

def test_free(): ...
"""


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("program", ["docker", "kind"])
def test_tests_are_skipped_with_what_is_missing_if_that_is_asked_for(
    project: Project, program: str, workers: int | None
) -> None:
    project.service("store", image=True)
    project.tests(TESTS)
    project.remove(program)

    run = project.run(SKIP, "-rs", workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 1, "skipped": 2}), run.text
    assert f': kindinfra: "{program}" is not on PATH (' in run.out
    assert "kindinfra: the set-up failed:" in run.out
    assert run.report["outcome"]["state"] == "skipped"


def test_an_engine_that_was_not_started_counts_as_missing(project: Project) -> None:
    project.service("store")
    project.tests(TESTS)
    nowhere = f"unix://{project.folder}/docker.sock"
    complains = f"Cannot connect to the Docker daemon at {nowhere}. Is the docker daemon running?"
    project.behave("docker version", exit=1, complains=complains)

    run = project.run(SKIP, "-rs")

    assert (run.code, run.outcomes) == (0, {"passed": 1, "skipped": 2}), run.text
    assert "kindinfra: the Docker engine does not answer" in run.out


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(
    "complains",
    [
        "permission denied while trying to connect to the Docker daemon socket at unix:///x.sock",
        "setpriv: unrecognized option '--pdeathsig'",
        "error during connect: context deadline exceeded",
    ],
    ids=["denied", "setpriv", "too late"],
)
def test_an_engine_whose_call_failed_is_an_error_and_no_reason_to_skip(
    project: Project, complains: str, workers: int | None
) -> None:
    project.service("store")
    project.tests(TESTS)
    project.behave("docker version", exit=1, complains=complains)

    run = project.run(SKIP, workers=workers)

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 2}), run.text
    assert complains in run.out


def test_a_kind_whose_call_failed_is_an_error_and_no_reason_to_skip(project: Project) -> None:
    project.service("store")
    project.tests(TESTS)
    project.behave("kind version", exit=126, complains="No version is set for command kind")

    run = project.run(SKIP)

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 2}), run.text


@pytest.mark.parametrize("workers", [None, 2])
def test_a_setpriv_without_the_flag_is_not_used(project: Project, workers: int | None) -> None:
    """As on Alpine, where busybox has one."""
    project.service("store")
    project.tests(TESTS)
    setpriv = project.fakes / "bin" / "setpriv"
    setpriv.unlink(missing_ok=True)
    setpriv.write_text("#!/bin/sh\necho \"unrecognized option '$1'\" >&2\nexit 1\n")
    setpriv.chmod(0o755)

    run = project.run(SKIP, workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 3}), run.text


def test_by_default_they_fail(project: Project) -> None:
    project.service("store")
    project.tests(TESTS)
    project.remove("kind")

    run = project.run()

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 2}), run.text
    assert run.report["outcome"]["state"] == "failed"


def test_a_service_that_breaks_is_no_reason_to_skip(project: Project) -> None:
    project.service("store", image=True)
    project.tests(TESTS)
    project.behave("build store", exit=3)

    run = project.run(SKIP)

    assert (run.code, run.outcomes) == (1, {"passed": 2, "errors": 1}), run.text

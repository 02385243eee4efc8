"""A run that stops before its last test: one teardown, and none while a test still runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.functional.endings import assert_deleted_once

if TYPE_CHECKING:
    from tests.functional.project import Project

EIGHT = """
@pytest.fixture{scope}
def fixture(kindinfra):
    {fixture}

@pytest.mark.kindinfra("api")
@pytest.mark.parametrize("number", range(8))
def test_it(fixture, number):
    {test}
"""
SESSION = '(scope="session")'
EXIT = "pytest.exit('enough')"
EXIT_3 = "pytest.exit('enough', returncode=3)"


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(
    ("scope", "fixture", "test", "arguments", "codes"),
    [
        # xdist calls a run interrupted that it stops, and has an internal error with other codes.
        pytest.param("", "assert False", "pass", ("-x",), {1, 2}, id="-x and a setup"),
        pytest.param(SESSION, EXIT, "pass", (), {2}, id="pytest.exit in a fixture"),
        pytest.param(SESSION, "pass", EXIT_3, (), {2, 3}, id="pytest.exit with a code"),
    ],
)
def test_it_is_deleted_once_after(
    project: Project,
    *,
    workers: int | None,
    scope: str,
    fixture: str,
    test: str,
    arguments: tuple[str, ...],
    codes: set[int],
) -> None:
    project.service("api")
    project.tests(EIGHT.format(scope=scope, fixture=fixture, test=test))

    run = project.run(*arguments, workers=workers)

    assert run.code in codes, run.text
    assert_deleted_once(run)
    # A test that ends its worker counts as failed.
    state = "failed" if arguments or run.lines("crashed while running") else "interrupted"
    assert run.report["outcome"]["state"] == state, run.text


def test_maxfail_counts_a_service_that_failed(project: Project) -> None:
    project.service("store", image=True)
    project.service("api")
    project.behave("build store", exit=3, complains="ERROR: the compiler gave up")
    project.tests("""
        @pytest.mark.parametrize("number", range(8))
        @pytest.mark.kindinfra("store")
        def test_store(number): ...

        @pytest.mark.kindinfra("api")
        def test_api(): ...
    """)

    run = project.run("--maxfail=1", workers=2)

    assert run.code == 2, run.text
    assert run.outcomes["errors"] <= 2, run.text  # at most one for each worker
    assert len(run.lines('kindinfra: image "store" failed')) == 1
    assert run.built == ["store"]
    assert run.clusters == []


def test_a_test_in_another_worker_ends_before_the_cluster_goes(project: Project) -> None:
    project.service("api")
    project.tests("""
        import time

        @pytest.mark.kindinfra("api")
        def test_long():
            open_gate("long")
            await_gate("failing")
            time.sleep(1)

        @pytest.mark.kindinfra("api")
        def test_failing():
            await_gate("long")
            open_gate("failing")
            assert False

        @pytest.mark.kindinfra("api")
        @pytest.mark.parametrize("number", range(2))
        def test_short(number): ...
    """)

    run = project.run("--exitfirst", workers=4)

    assert (run.code, run.outcomes) == (2, {"passed": 3, "failed": 1}), run.text
    assert run.at("end test_failing") < run.at("end test_long")
    assert_deleted_once(run)


def test_a_test_that_still_waits_is_let_go(project: Project) -> None:
    project.behave("create", until="never")
    project.tests("""
        def test_failing():
            await_gate("creating")
            assert False

        def test_waiting(kindinfra): note("never")
    """)

    running = project.start("-x", workers=2)
    running.until_called("create")
    project.open("creating")
    run = running.finish()

    assert (run.code, run.outcomes) == (2, {"failed": 1, "errors": 1}), run.text
    assert "the run is ending" in run.out
    assert run.call("create").end is None  # it was ended, not waited for
    assert_deleted_once(run)

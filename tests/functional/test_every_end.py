"""However a run ends, what it made is deleted once, and after the last test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.functional.endings import assert_deleted_once
from tests.functional.project import CONFTEST

if TYPE_CHECKING:
    from tests.functional.project import Project

LAST_TEST = """
@pytest.mark.kindinfra("api")
@pytest.mark.parametrize("number", range(8))
def test_it(number):
    {body}
"""
FAILING_FIXTURE = """
@pytest.fixture(scope="session")
def broken(kindinfra):
    raise ValueError("broken")

@pytest.mark.kindinfra("api")
def test_broken(broken): ...

@pytest.mark.kindinfra("api")
def test_whole(): ...
"""
ENDLESS = """
@pytest.mark.kindinfra("api")
def test_endless():
    note("in the test")
    await_gate("never", seconds=3)  # as long as xdist waits for a worker at the most
"""


@pytest.mark.parametrize(
    ("body", "arguments", "workers", "code"),
    [
        pytest.param("assert False", ("-x",), 2, {1, 2}, id="-x"),
        pytest.param("assert False", ("--maxfail=3",), None, {1}, id="--maxfail"),
        pytest.param("pytest.exit('enough')", (), None, {2}, id="pytest.exit"),
        pytest.param("pytest.exit('enough')", (), 2, {1, 2, 3}, id="pytest.exit in a worker"),
        pytest.param("raise KeyboardInterrupt", (), None, {2}, id="KeyboardInterrupt"),
        pytest.param("if number == 2: os._exit(7)", (), 2, {1}, id="a dead worker"),
    ],
)
def test_it_is_deleted_once_after(
    project: Project, body: str, arguments: tuple[str, ...], workers: int | None, code: set[int]
) -> None:
    project.service("api")
    project.tests(LAST_TEST.format(body=body))

    run = project.run(*arguments, workers=workers)

    assert run.code in code, run.text
    assert_deleted_once(run)


def test_a_dead_worker_costs_no_other_test(project: Project) -> None:
    project.service("api", image=True)
    project.tests(LAST_TEST.format(body="if number == 2: os._exit(7)"))

    run = project.run(workers=2)

    assert run.outcomes == {"passed": 7, "failed": 1}, run.text
    assert (run.built, run.deployed) == (["api"], ["api"])


def test_a_failing_session_fixture_ends_nothing_early(project: Project) -> None:
    project.service("api")
    project.tests(FAILING_FIXTURE)

    run = project.run(workers=2)

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 1}), run.text
    assert_deleted_once(run)


def test_what_a_killed_run_left_is_deleted_by_the_next(project: Project) -> None:
    project.service("api")
    project.tests(ENDLESS + LAST_TEST.format(body="pass"))

    running = project.start("-k", "endless")
    running.until_at("in the test")
    running.kill()
    killed = running.finish()
    project.foreign_cluster("somebodys")
    project.behave("create", until="swept")  # a real one takes longer than deleting
    running = project.start("-k", "not endless")
    running.until(lambda: not set(killed.clusters) & set(project.standing()))
    project.open("swept")
    run = running.finish()

    assert len(killed.clusters) == 1
    assert run.code == 0, run.text
    assert {call.argv[-3] for call in run.calls("delete")} > set(killed.clusters)
    assert run.clusters == ["somebodys"]


def test_what_could_not_be_deleted_is_said_and_deleted_by_the_next_run(project: Project) -> None:
    project.tests("def test_it(kindinfra): ...\n")

    project.behave("delete", exit=1, complains="ERROR: permission denied")
    first = project.run(workers=None)
    gc = project.command("gc")
    project.behave("create", until="told")
    running = project.start(workers=None)
    running.until(lambda: "could not be deleted" in running.so_far())
    project.open("told")
    next_one = running.finish()
    project.behave("delete")
    project.behave("create", until="swept")
    running = project.start(workers=None)
    running.until(lambda: not set(next_one.clusters) & set(project.standing()))
    project.open("swept")
    second = running.finish()

    assert "teardown failed" in first.out
    assert "ERROR: permission denied" in first.out
    assert first.report["outcome"]["kept"] is True
    (name,) = first.clusters
    assert gc.returncode == 1
    assert f"could not delete cluster {name}: " in gc.stdout
    assert f"an old cluster could not be deleted ({name}): " in next_one.out
    assert second.clusters == []


def test_a_cluster_that_cannot_be_created_is_deleted_after_its_logs_were_exported(
    project: Project,
) -> None:
    project.service("api", image=True)
    project.behave("create", exit=1, says="ERROR: failed to init node with kubeadm")
    project.tests(LAST_TEST.format(body="pass") + "def test_free(): ...\n")

    run = project.run(workers=2)

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 8}), run.text
    assert "ERROR: failed to init node with kubeadm" in run.out
    assert (run.call("export").end or 0) <= run.call("delete").start
    assert (Path(run.folder) / "kind" / "journal.log").is_file()
    assert run.clusters == []


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("program", ["docker", "kind"])
def test_a_missing_program_is_said_and_costs_no_independent_test(
    project: Project, program: str, workers: int | None
) -> None:
    project.service("api", image=True)
    project.remove(program)
    project.tests(LAST_TEST.format(body="pass") + "def test_free(): ...\n")

    run = project.run(workers=workers)

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 8}), run.text
    assert f'"{program}" is not on PATH' in run.out
    assert "To fix: install" in run.out
    assert (run.built, run.calls("create")) == ([], [])


def test_an_engine_that_does_not_answer_is_said(project: Project) -> None:
    project.behave("docker version", exit=1, complains="Cannot connect to the Docker daemon")
    project.tests("def test_it(kindinfra): ...\n")

    run = project.run()

    assert (run.code, run.outcomes) == (1, {"errors": 1}), run.text
    assert "the Docker engine does not answer" in run.out
    assert "Cannot connect to the Docker daemon" in run.out
    assert run.calls("create") == []


HOOK = """
def pytest_kindinfra_{hook}(stack, directory):
    pytest.{outcome}("said in a hook")
"""


@pytest.mark.parametrize("outcome", ["fail", "skip", "exit"])
@pytest.mark.parametrize("hook", ["before_teardown", "diagnose"])
def test_a_hook_at_the_end_that_fails_as_a_test_does_leaves_no_cluster(
    project: Project, hook: str, outcome: str
) -> None:
    project.service("api")
    project.write("conftest.py", CONFTEST + HOOK.format(hook=hook, outcome=outcome))
    project.tests('@pytest.mark.kindinfra("api")\ndef test_it(): assert False\n')

    run = project.run(workers=None)

    assert_deleted_once(run)
    assert run.code == 1, run.text
    what = {"before_teardown": "before teardown", "diagnose": "evidence"}[hook]
    assert f"kindinfra: {what} failed: " in run.text
    assert "said in a hook" in run.text

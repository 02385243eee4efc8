"""pytest-timeout: a test is charged for itself alone, and may end a process without a word."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes import eventually

if TYPE_CHECKING:
    from tests.functional.project import Project

TIMEOUT = ("-p", "pytest_timeout", "--timeout=1")
THREAD = ("-p", "timeout", "--timeout-method=thread")
RERUNS = ("-p", "rerunfailures", "--reruns=1")

LONG = """
import time

@pytest.mark.kindinfra("api")
@pytest.mark.parametrize("number", range(2))
def test_before(kindinfra, number): assert kindinfra.url("api")

@pytest.mark.kindinfra("api")
@pytest.mark.timeout(0.5)
def test_long(kindinfra):
    assert kindinfra.url("api")
    time.sleep(30)

@pytest.mark.kindinfra("api")
def test_z(kindinfra): assert kindinfra.url("api")
"""


@pytest.mark.parametrize("method", ["signal", "thread"])
@pytest.mark.parametrize("workers", [None, 2])
def test_bringing_up_is_not_charged_to_the_timeout_of_the_first_test(
    project: Project, workers: int | None, method: str
) -> None:
    project.behave("create", seconds=2.5)
    project.tests("""
        @pytest.mark.kindinfra
        def test_marked(): ...
    """)

    run = project.run(*TIMEOUT, f"--timeout-method={method}", workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text


def test_bringing_up_is_not_charged_to_a_timeout_that_a_mark_says(project: Project) -> None:
    project.behave("create", seconds=2.5)
    project.tests("""
        @pytest.mark.timeout(1)
        def test_by_mark(kindinfra): assert kindinfra.cluster

        @pytest.mark.timeout(1, func_only=True)
        def test_of_the_function_only(kindinfra): assert kindinfra.cluster
    """)

    run = project.run("-p", "timeout", workers=2)  # so that both wait

    assert (run.code, run.outcomes) == (0, {"passed": 2}), run.text
    assert len({worker for what, _, worker in run.notes if what.startswith("start")}) == 2


def test_a_test_that_takes_too_long_itself_still_times_out(project: Project) -> None:
    project.tests("""
        import time

        @pytest.mark.kindinfra
        def test_marked():
            time.sleep(30)
    """)

    run = project.run(*TIMEOUT, "--timeout-method=signal", workers=None)

    assert (run.code, run.outcomes) == (1, {"failed": 1}), run.text
    assert len(run.calls("delete")) == 1


def test_a_test_that_timed_out_is_run_again_on_the_same_stack(project: Project) -> None:
    project.service("api", image=True)
    project.tests("""
        import time

        @pytest.mark.kindinfra("api")
        def test_flaky(kindinfra):
            assert kindinfra.url("api")
            again = os.path.exists("tried")
            open("tried", "w").close()
            time.sleep(0 if again else 30)
    """)

    run = project.run(*TIMEOUT, "--timeout-method=signal", *RERUNS, workers=None)

    assert (run.code, run.outcomes) == (0, {"passed": 1, "rerun": 1}), run.text
    assert (run.built, run.deployed) == (["api"], ["api"])


@pytest.mark.parametrize("reruns", [(), RERUNS], ids=["once", "with --reruns"])
def test_a_worker_that_a_timeout_ends_is_replaced_and_costs_no_other_test(
    project: Project, reruns: tuple[str, ...]
) -> None:
    project.service("api", image=True)
    project.tests(LONG)

    run = project.run(*THREAD, *reruns, workers=2)

    again = {"rerun": 1} if reruns else {}
    assert (run.code, run.outcomes) == (1, {"passed": 3, "failed": 1, **again}), run.text
    assert run.out.count("replacing crashed worker") == 1 + len(again)
    assert (run.built, run.deployed) == (["api"], ["api"])
    assert len(run.calls("create")) == len(run.calls("delete")) == 1
    assert run.clusters == []


def test_a_timeout_that_ends_the_only_process_leaves_the_cluster_to_the_provisioner(
    project: Project,
) -> None:
    project.service("api")
    project.tests(LONG)

    ended = project.run(*THREAD, workers=None)

    assert ended.code == 1, ended.text
    assert "+ Timeout +" in ended.text
    assert eventually((Path(ended.folder) / "run.json").exists)
    assert project.standing() == []
    assert ended.report["outcome"]["kept"] is False

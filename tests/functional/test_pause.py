"""`--kindinfra-pause`: at the first failure the tests stop until Enter is pressed."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

PAUSE = "--kindinfra-pause"

TESTS = """
@pytest.fixture
def shelter():
    yield
    note("fixture ended")

@pytest.mark.kindinfra("api")
def test_1_fails(shelter):
    assert False, "as it should"

@pytest.mark.kindinfra("api")
def test_2_runs_meanwhile():
    await_gate("paused")

@pytest.mark.kindinfra("api")
def test_3_comes_later():
    assert False, "once more"

def test_4_needs_nothing(): ...
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api")
    project.tests(TESTS)
    return project


def stays(seconds: float = 0.6) -> None:
    """Let the time pass in which what must not happen would."""
    time.sleep(seconds)


def test_the_fixtures_of_the_failed_test_wait_until_enter(shop: Project) -> None:
    shop.open("paused")
    run = shop.at_terminal(PAUSE, "-p", "no:randomly", workers=None)
    run.until_shown("kindinfra: press Enter to go on\n")
    stays()
    told = shop.told()
    run.type("\n")
    code = run.finish()

    assert "end test_1_fails" in told
    assert not told & {"fixture ended", "start test_3_comes_later"}
    assert code == 1
    assert {"fixture ended", "start test_3_comes_later"} <= shop.told()
    assert run.shown.count("press Enter") == 1, "only the first failure stops the tests"


def test_the_commands_to_look_with_are_shown(shop: Project) -> None:
    shop.open("paused")
    run = shop.at_terminal(PAUSE, workers=None)
    run.until_shown("press Enter")
    folder = shop.newest_folder()
    run.type("\n")
    run.finish()

    lines = run.shown.partition("kindinfra: test_it.py::test_1_fails")[2].splitlines()
    assert lines[0] == " (call) failed; the tests stop here, and the cluster stays meanwhile"
    assert lines[1].startswith(f"  evidence: {folder}/attempts/test_it.py-test_1_fails-")
    assert lines[2:6] == [
        f"  export KUBECONFIG={folder}/kubeconfig",
        "  kubectl --namespace=default get pods,events",
        "  kubectl --namespace=default logs --selector=dev.kindinfra/service=api --prefix",
        "kindinfra: press Enter to go on",
    ]


def test_with_reuse_the_commands_of_kindinfra_are_shown(shop: Project) -> None:
    shop.open("paused")
    run = shop.at_terminal(PAUSE, "--kindinfra-reuse", workers=None)
    run.until_shown("press Enter")
    run.type("\n")
    run.finish()

    assert "\n  kindinfra logs api\n  kindinfra exec api -- sh -c 'COMMAND'\n" in run.shown


def test_all_workers_stop_and_go_on(shop: Project) -> None:
    run = shop.at_terminal(PAUSE, "-p", "no:randomly", workers=2)
    run.until_shown("kindinfra: press Enter to go on\n")
    shop.open("paused")
    late = time.monotonic() + 60
    while "end test_2_runs_meanwhile" not in shop.told():
        assert time.monotonic() < late, run.shown
        time.sleep(0.02)
    stays()
    told = shop.told()
    run.type("\n")
    code = run.finish()

    assert not told & {"fixture ended", "start test_3_comes_later"}
    assert code == 1
    assert {"fixture ended", "start test_3_comes_later"} <= shop.told()
    assert run.shown.count("press Enter") == 1


def test_a_test_that_is_run_again_stops_them_under_xdist_too(shop: Project) -> None:
    shop.open("paused")
    run = shop.at_terminal(PAUSE, "-p", "rerunfailures", "--reruns=1", workers=2)
    run.until_shown("press Enter")
    run.type("\n")

    assert run.finish() == 1


@pytest.mark.parametrize("workers", [None, 1])
def test_ctrl_c_ends_the_pause_and_the_run(shop: Project, workers: int | None) -> None:
    shop.open("paused")
    run = shop.at_terminal(PAUSE, workers=workers)
    run.until_shown("press Enter")
    run.process.send_signal(signal.SIGINT)

    assert run.finish() == 2
    assert shop.standing() == []


@pytest.mark.parametrize("workers", [None, 1])
def test_without_a_terminal_nothing_stops_and_a_line_says_so(
    shop: Project, workers: int | None
) -> None:
    shop.open("paused")

    run = shop.run(PAUSE, workers=workers)

    line = "kindinfra: --kindinfra-pause does nothing: standard input or output is no terminal"
    assert run.lines("--kindinfra-pause") == [line]
    assert run.outcomes == {"failed": 2, "passed": 2}


def test_what_needs_no_cluster_stops_nothing(project: Project) -> None:
    project.tests("def test_it():\n    assert False\n")

    run = project.at_terminal(PAUSE, workers=None)

    assert run.finish() == 1
    assert "press Enter" not in run.shown

"""What a run stands on goes away in mid-run: its terminal, its folder, its own process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.functional.project import READ_UNTIL

if TYPE_CHECKING:
    from tests.functional.project import Project


@pytest.fixture
def web(project: Project) -> Project:
    project.service("web", image=True)
    project.tests("""
        @pytest.mark.kindinfra("web")
        def test_web(kindinfra):
            assert kindinfra.url("web")
    """)
    return project


class TestATerminalThatIsGone:
    @pytest.mark.parametrize("progress", ["plain", "auto"])
    @pytest.mark.parametrize("workers", [None, 2])
    def test_the_cluster_is_deleted(self, web: Project, workers: int | None, progress: str) -> None:
        how = f"--kindinfra-progress={progress}"

        within = [sys.executable, "-c", READ_UNTIL, "cluster created"]

        run = web.run(how, workers=workers, within=within)

        assert len(run.calls("create")) == len(run.calls("delete")) == 1
        assert run.clusters == []

    def test_a_command_does_its_work(self, web: Project) -> None:
        done = web.command_until("kindinfra", "up")
        status = web.command("status")

        assert (done.returncode, done.stderr) == (0, "")
        assert status.returncode == 0, status.stdout


@pytest.mark.parametrize("workers", [None, 2])
def test_a_run_directory_that_a_test_removes_leaves_no_cluster(
    web: Project, workers: int | None
) -> None:
    web.tests("""
        import shutil

        @pytest.mark.kindinfra("web")
        def test_tidy(pytestconfig, kindinfra):
            assert kindinfra.url("web")
            shutil.rmtree(pytestconfig.rootpath / ".kindinfra")
    """)

    run = web.run(workers=workers)

    assert run.outcomes == {"passed": 1}
    assert len(run.calls("delete")) == 1
    assert run.clusters == []
    assert "was removed while the run went on" in run.text


def test_a_queue_that_a_test_removes_fails_only_the_test_that_waits(web: Project) -> None:
    """It used to end the session with an internal error."""
    web.tests("""
        import json, time

        @pytest.mark.kindinfra("web", lock="db")
        @pytest.mark.parametrize("number", range(2))
        def test_tidy(pytestconfig, number):
            queue = pytestconfig.rootpath / ".kindinfra" / "latest" / "state" / "turns.json"
            while queue.read_text().count("test_tidy") < 2:
                time.sleep(0.02)
            queue.unlink()
    """)

    run = web.run(workers=2)

    assert run.outcomes == {"passed": 1, "errors": 1}, run.text
    assert run.lines("has lost its place in the queue of tests: another process removed files of")
    assert "INTERNALERROR" not in run.text


def test_a_process_that_a_test_forks_off_ends_nothing(project: Project) -> None:
    project.service("web", image=True)
    project.tests("""
        @pytest.fixture
        def child():
            return os.fork() == 0

        @pytest.mark.kindinfra("web")
        def test_fork(kindinfra, kindinfra_namespace, child):
            if child:
                raise SystemExit(3)  # out of the test, and through the end of pytest
            os.wait()

        @pytest.mark.kindinfra("web")
        def test_after(kindinfra):
            from urllib.request import urlopen

            assert kindinfra.kube is not None
            assert urlopen(kindinfra.url("web")).read()
            note("after")
    """)

    run = project.run("-x", workers=None)

    assert run.outcomes == {"passed": 2}, run.text
    assert len(run.calls("delete")) == 1
    assert run.call("delete").start > run.at("after")

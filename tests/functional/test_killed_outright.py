"""`kill -9` of pytest, of the provisioner, of both: in every stage, with and without xdist.

Nothing is left within 15 s of the first: no cluster, program, process, temporary file. After the
second pytest says so and deletes the cluster. After both the next run or `kindinfra gc` does.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.fakes import eventually
from tests.functional.project import is_alive, processes_of, provisioners

if TYPE_CHECKING:
    from pathlib import Path

    from tests.functional.project import Project, Running

WITHIN = 15.0
"""Seconds in which nothing is left."""

CONFTEST = """

def pytest_collection_finish(session):
    import os
    if hasattr(session.config, "workerinput"):
        note(f"worker {{os.getpid()}}")

def pytest_kindinfra_services(config):
    import os
    if os.path.exists({gates!r} + "/slow-plan"):
        from story import await_gate
        note("planning")
        await_gate("never")
    return []
"""
TESTS = """
@pytest.mark.parametrize("number", range(4))
@pytest.mark.kindinfra("api")
def test_it(kindinfra, number):
    note(f"in {os.getpid()}")
    if not os.path.exists(os.path.dirname(os.environ["PATH"]) + "/gates/quick"):
        await_gate("over")
"""
STAGES = ("plan", "create", "build", "load", "deploy", "tests", "teardown")
WORKERS = (None, 2)
BY_WORKER = STAGES[: STAGES.index("teardown")]
"""It begins when the last worker has ended."""


@pytest.fixture
def api(project: Project) -> Project:
    project.service("api", image=True)
    conftest = (project.folder / "conftest.py").read_text()
    gates = str(project.fakes / "gates")
    project.write("conftest.py", conftest + CONFTEST.format(gates=gates))
    project.tests(TESTS)
    return project


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


def start_until(project: Project, stage: str, workers: int | None, temporary: Path) -> Running:
    """Begin a run and return when it has come to that stage."""
    if stage == "plan":
        project.open("slow-plan")
    elif stage == "teardown":
        project.open("quick")
        project.behave("delete", until="deletes")
    elif stage != "tests":
        call = {"build": "build api", "load": "import", "deploy": "ready api"}.get(stage, stage)
        project.behave(call, until="never")
    running = project.start(workers=workers, TMPDIR=str(temporary))
    if stage == "plan":
        running.until_at("planning")
    elif stage == "tests":
        running.until(lambda: project.told_in_order("in "))
    elif stage == "deploy":
        running.until_at("apply Deployment/api")
    else:
        running.until_called(
            {"build": "build api", "load": "import", "teardown": "delete"}.get(stage, stage)
        )
        if stage in {"build", "load"}:
            running.until(project.standing)
    return running


def workers_of(project: Project) -> list[int]:
    """Return xdist's workers, in the order in which they have collected."""
    return [int(what.split()[-1]) for what in project.told_in_order("worker ")]


def assert_nothing_is_left(project: Project, running: Running, temporary: Path) -> None:
    workers = workers_of(project)

    def left() -> list[str]:
        return [
            *project.standing(),
            *processes_of(project),
            *(f"provisioner {one}" for one in provisioners(running.process.pid)),
            *(f"worker {one}" for one in workers if is_alive(one)),
        ]

    began = time.monotonic()
    assert eventually(lambda: not left(), within=WITHIN), left()
    assert time.monotonic() - began < WITHIN
    assert [
        path.name
        for path in temporary.iterdir()
        if not path.name.startswith("pytest-of-") and path.name != "kindinfra"
    ] == []


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_left_of_a_run_whose_main_process_is_killed(
    api: Project, temporary: Path, stage: str, workers: int | None
) -> None:
    running = start_until(api, stage, workers, temporary)

    running.signal(signal.SIGKILL)
    api.open("deletes")
    run = running.finish()

    assert run.code == -signal.SIGKILL
    assert_nothing_is_left(api, running, temporary)
    if stage != "plan":
        assert len(api.calls()) > 0
        report = json.loads((api.folder / ".kindinfra" / "latest" / "run.json").read_text())
        assert report["outcome"]["kept"] is False
        assert report["outcome"]["state"] == ("passed" if stage == "teardown" else "interrupted")
    else:
        assert not (api.folder / ".kindinfra" / "latest").exists()


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_left_of_a_run_whose_terminal_kills_all_of_its_group(
    api: Project, temporary: Path, stage: str, workers: int | None
) -> None:
    running = start_until(api, stage, workers, temporary)

    running.signal(signal.SIGKILL, group=True)
    api.open("deletes")
    running.finish()

    assert_nothing_is_left(api, running, temporary)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("stage", STAGES)
def test_pytest_says_that_the_provisioner_was_killed_and_deletes_the_cluster(
    api: Project, temporary: Path, stage: str, workers: int | None
) -> None:
    running = start_until(api, stage, workers, temporary)
    provisioner = running.provisioner()
    assert provisioner

    os.kill(provisioner, signal.SIGKILL)
    killed = time.time()
    if stage == "plan":
        api.open("never")
    if stage == "tests":
        api.open("over")
    api.open("deletes")
    run = running.finish()

    assert "the provisioner, the process that brings the stack up, ended before" in run.text
    assert_nothing_is_left(api, running, temporary)
    if stage == "tests":  # their services were ready, and the cluster stayed until its end
        assert (run.code, run.outcomes) == (0, {"passed": 4}), run.text
    elif stage != "teardown":
        assert (run.code, run.outcomes) == (1, {"errors": 4}), run.text
        first = min(when for what, when, _ in run.notes if what.startswith("error "))
        assert first - killed < (5 if stage == "plan" else 2)
    if stage != "plan":
        assert len(run.calls("delete")) >= 1
        assert run.report["outcome"]["kept"] is False


def test_a_program_that_a_step_left_behind_does_not_hide_that_the_provisioner_was_killed(
    api: Project, temporary: Path
) -> None:
    pids = api.folder / "pids"
    api.write(
        "steps.py",
        f"""
        import os, time

        def leave(stack):
            os.system("sleep 300 >/dev/null 2>&1 & echo $! >>{pids}")
            if (child := os.fork()) == 0:
                time.sleep(300)
                os._exit(0)
            with open("{pids}", "a") as file:
                file.write(f"{{child}}\\n")
        """,
    )
    api.declare('[services.step]\nrun = "steps:leave"\n')
    api.tests(TESTS.replace('"api"', '"api", "step"'))
    running = start_until(api, "tests", None, temporary)
    provisioner = running.provisioner()
    assert provisioner

    os.kill(provisioner, signal.SIGKILL)
    api.open("over")
    run = running.finish()
    for pid in map(int, pids.read_text().split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    assert "the provisioner, the process that brings the stack up, ended before" in run.text
    assert run.clusters == []


@pytest.mark.parametrize("stage", BY_WORKER)
def test_nothing_is_left_of_a_run_with_a_worker_that_was_killed(
    api: Project, temporary: Path, stage: str
) -> None:
    running = start_until(api, stage, 2, temporary)
    running.until(lambda: len(workers_of(api)) >= 2)

    os.kill(workers_of(api)[0], signal.SIGKILL)
    for gate in ("over", "never"):
        api.open(gate)
    run = running.finish()

    if stage != "plan":  # xdist may end with an error of its own if it sends tests to a dead worker
        assert sum(run.outcomes.values()) == 4, run.text
        assert run.outcomes.get("failed", 0) <= 1  # the test that the worker ran
        assert (run.built, run.deployed) == (["api"], ["api"])
        assert len(run.calls("create")) == len(run.calls("delete")) == 1
    assert_nothing_is_left(api, running, temporary)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("stage", STAGES)
def test_kindinfra_gc_clears_up_after_both_were_killed(
    api: Project, temporary: Path, stage: str, workers: int | None
) -> None:
    clusters = 0 if stage == "plan" else 1
    running = start_until(api, stage, workers, temporary)
    running.until(lambda: len(api.standing()) == clusters)

    running.kill()
    running.finish()
    assert eventually(lambda: not processes_of(api), within=WITHIN)
    there = api.standing()
    api.open("deletes")
    done = api.command("gc")

    assert (len(there), done.returncode) == (clusters, 0), done.stdout + done.stderr
    assert_nothing_is_left(api, running, temporary)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_cluster_that_is_to_be_kept_outlives_the_main_process(
    api: Project, temporary: Path, workers: int | None
) -> None:
    api.declare('[options]\nkeep = "always"\n')
    running = start_until(api, "tests", workers, temporary)

    running.signal(signal.SIGKILL)
    running.finish()

    assert eventually(lambda: not provisioners(running.process.pid), within=WITHIN)
    assert len(api.standing()) == 1
    assert api.command("gc").returncode == 0
    assert len(api.standing()) == 1  # it is no garbage


def test_a_reused_cluster_outlives_the_main_process(api: Project, temporary: Path) -> None:
    api.declare("[options]\nreuse = true\n")
    running = start_until(api, "tests", None, temporary)

    running.signal(signal.SIGKILL)
    running.finish()

    assert eventually(lambda: not provisioners(running.process.pid), within=WITHIN)
    assert len(api.standing()) == 1


def test_a_surviving_fork_does_not_hide_the_end_of_the_main_process(
    project: Project, temporary: Path
) -> None:
    """The child has copies of all that its parent had open."""
    project.service("api")
    project.tests("""
        import time

        @pytest.mark.kindinfra("api")
        def test_it(kindinfra):
            if (child := os.fork()) == 0:
                time.sleep(40)
                os._exit(0)
            note(f"child {child}")
            await_gate("never")
    """)
    running = project.start(workers=None, TMPDIR=str(temporary))
    running.until(lambda: project.told_in_order("child "))
    child = int(project.told_in_order("child ")[0].split()[1])

    running.signal(signal.SIGKILL)
    running.finish()

    assert eventually(lambda: not project.standing(), within=WITHIN)
    assert eventually(lambda: not provisioners(running.process.pid), within=WITHIN)
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)

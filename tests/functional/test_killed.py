"""Workers and controllers that are killed, programs that are told to end: at any moment."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes import eventually
from tests.functional.project import is_alive, processes_of

if TYPE_CHECKING:
    from tests.functional.project import Project, Running

WAITING = """

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    import os
    note(f"setup {os.getpid()}")
"""
# As many tests that xdist keeps some for a replacement: each worker gets two to begin with.
TESTS = """
@pytest.mark.parametrize("number", range(24))
@pytest.mark.kindinfra("api")
def test_it(kindinfra, number):
    assert kindinfra.url("api")
    {body}
"""
ENDLESS = """
@pytest.mark.kindinfra("api")
def test_endless():
    note("in the test")
    await_gate("never", seconds=1.5)  # less than xdist waits for a worker
"""


def declare(project: Project, body: str = "") -> None:
    project.service("api", image=True)
    project.write("conftest.py", (project.folder / "conftest.py").read_text() + WAITING)
    project.tests(TESTS.format(body=body or "pass"))


def pids(project: Project) -> list[int]:
    """Return the processes that run tests, in the order in which they came to their first."""
    found = [int(what.split()[1]) for what in project.told_in_order("setup")]
    return list(dict.fromkeys(found))


def until_workers(running: Running, project: Project, count: int) -> list[int]:
    running.until(lambda: len(pids(project)) >= count)
    return pids(project)


# -- workers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 4])
def test_a_worker_killed_while_it_waits_is_replaced_and_nothing_is_done_twice(
    project: Project, workers: int
) -> None:
    declare(project)
    project.behave("create", until="go")

    running = project.start(workers=workers)
    victim = until_workers(running, project, workers)[0]
    os.kill(victim, signal.SIGKILL)
    until_workers(running, project, workers + 1)  # the replacement waits too
    project.open("go")
    run = running.finish()

    assert run.outcomes == {"passed": 23, "failed": 1}, run.text
    assert "crashed while running" in run.out
    assert (run.built, run.deployed) == (["api"], ["api"])
    assert len(run.calls("create")) == len(run.calls("delete")) == 1
    assert run.clusters == []


def test_a_worker_killed_in_a_test_is_replaced_and_nothing_is_done_twice(project: Project) -> None:
    declare(project, body="if number == 2: os.kill(os.getpid(), 9)")

    run = project.run(workers=2)

    assert run.outcomes == {"passed": 23, "failed": 1}, run.text
    assert (run.built, run.deployed) == (["api"], ["api"])
    assert len(run.calls("create")) == len(run.calls("delete")) == 1


def test_all_workers_killed_while_they_wait_get_the_same_stack_by_their_replacements(
    project: Project,
) -> None:
    declare(project)
    project.behave("build api", until="go")

    running = project.start(workers=2)
    for number, victim in enumerate(until_workers(running, project, 2), start=3):
        os.kill(victim, signal.SIGKILL)
        until_workers(running, project, number)  # xdist cannot lose two at the same moment
    project.open("go")
    run = running.finish()

    assert run.outcomes == {"passed": 22, "failed": 2}, run.text
    assert (run.built, run.deployed) == (["api"], ["api"])
    assert len(run.calls("create")) == len(run.calls("delete")) == 1


# -- the controller ----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["build api", "create", "ready api", "tests"])
def test_a_run_whose_processes_are_all_killed_leaves_a_cluster_that_the_next_deletes(
    project: Project, stage: str
) -> None:
    declare(project)
    project.tests(TESTS.format(body="await_gate('never', seconds=60)"))
    if stage != "tests":
        project.behave(stage, until="never")

    running = project.start(workers=2)
    workers = until_workers(running, project, 2)
    _until_at_stage(running, stage)
    running.kill(group=False)
    killed = running.finish()

    assert killed.code == -signal.SIGKILL
    assert eventually(lambda: not any(map(is_alive, workers)))
    assert eventually(lambda: not processes_of(project))

    project.tests("def test_it(kindinfra): ...\n")
    project.behave("create", until="swept")
    again = project.start(workers=2)
    again.until(lambda: not set(killed.clusters) & set(project.standing()))
    project.open("swept")
    run = again.finish()

    assert (run.code, run.clusters) == (0, []), run.text


def _until_at_stage(running: Running, stage: str) -> None:
    running.until_called("create")
    if stage == "tests":
        running.until_at("start test_it[0]")
    elif stage == "ready api":
        running.until_at("apply Deployment/api")
    else:
        running.until_called("build api")


def test_what_a_live_run_has_is_touched_by_no_other_run(project: Project) -> None:
    project.tests("""
        @pytest.mark.kindinfra
        def test_first(kindinfra):
            note("up")
            await_gate("over")
    """)
    first = project.start(workers=2)
    first.until_at("up")
    (live,) = project.standing()

    second = project.start("--co", "-q")  # needs nothing, does nothing
    second.finish()
    third = project.start("-k", "nothing")
    third.finish()
    project.tests("def test_other(kindinfra): ...\n", "test_other.py")
    fourth = project.start("test_other.py", workers=2)
    other = fourth.finish()
    standing = project.standing()
    project.open("over")
    run = first.finish()

    assert standing == [live]
    assert (other.code, run.code) == (0, 0), other.text + run.text


# -- signals -----------------------------------------------------------------------------------

SIGNALS = {
    "SIGINT": [signal.SIGINT],
    "SIGINT twice": [signal.SIGINT, signal.SIGINT],
    "SIGTERM": [signal.SIGTERM],
    "SIGHUP": [signal.SIGHUP],
}


@pytest.mark.parametrize("stage", ["build api", "create", "ready api", "tests"])
@pytest.mark.parametrize(
    ("sent", "workers"),
    [("SIGINT", 2), ("SIGINT twice", None), ("SIGINT twice", 2), ("SIGTERM", 2), ("SIGHUP", None)],
)
def test_a_signal_ends_programs_keeps_evidence_and_deletes(
    project: Project, sent: str, stage: str, workers: int | None
) -> None:
    project.service("api", image=True)
    project.tests(ENDLESS)
    if stage != "tests":
        project.behave(stage, until="never")
    twice = len(SIGNALS[sent]) > 1
    if twice:
        project.behave("export", until="never")  # evidence takes too long for somebody

    running = project.start(workers=workers)
    running.until_called("create")
    running.until_called("build api")
    if stage == "ready api":
        running.until_at("apply Deployment/api")
    elif stage == "build api":
        running.until_at("apply Namespace/default")
    elif stage == "tests":
        running.until_at("in the test")
    running.until(project.standing)  # or there would be nothing to keep evidence of
    running.signal(SIGNALS[sent][0])
    if twice:
        running.until_called("export")
        running.signal(SIGNALS[sent][1])
    run = running.finish()

    assert run.code == 2, run.text
    assert len(run.calls("delete")) == 1
    assert run.clusters == []
    assert len(run.calls("export")) == 1
    assert (run.call("export").end is None) is twice
    assert run.report["outcome"]["state"] == "interrupted"
    if stage in {"build api", "create"}:
        assert run.call(stage).end is None  # it was ended before it came to its end
    assert processes_of(project) == []


# Up to Python 3.11 the interrupt comes out of such a class as a RuntimeError: xdist is not in it.
INTERRUPTED_IMPORT = """

import signal, sys, types

class Interrupting:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), signal.{signal})
        time.sleep(0.05)

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "pytest_kindinfra.session.provisioner":
            note("importing")
            sys.meta_path.remove(Finder)
            types.new_class("Owner", exec_body=lambda body: body.update(it=Interrupting()))

import os, time
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupt_while_the_run_begins_is_no_internal_error(
    project: Project, sent: str
) -> None:
    project.service("api")
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", conftest + INTERRUPTED_IMPORT.format(signal=sent))
    project.tests(ENDLESS)

    run = project.start(workers=None).finish()

    assert "importing" in project.told(), run.text
    assert run.code == 2, run.text
    assert "INTERNALERROR" not in run.text
    assert run.clusters == []


@pytest.mark.parametrize("workers", [None, 2])
def test_a_second_interrupt_during_the_deletion_still_deletes(
    project: Project, workers: int | None
) -> None:
    project.service("api")
    project.behave("delete", seconds=1.0)
    project.tests(ENDLESS)

    running = project.start(workers=workers)
    running.until_at("in the test")
    running.signal(signal.SIGINT)
    running.until_called("delete")
    running.signal(signal.SIGINT)
    run = running.finish()

    assert run.code == 2, run.text
    assert run.clusters == []
    assert processes_of(project) == []


def test_a_second_interrupt_while_workers_still_end_hurries_and_keeps_the_exit_code(
    project: Project,
) -> None:
    """It came out of xdist's own wait for its workers, and ended pytest by the signal."""
    project.service("api")
    project.tests(ENDLESS)

    running = project.start(workers=2)
    running.until_at("in the test")
    running.signal(signal.SIGINT)
    running.until(lambda: list(project.folder.glob(".kindinfra/2*/state/closed.json")))
    running.signal(signal.SIGINT)
    run = running.finish()

    assert run.code == 2, run.text
    assert len(run.calls("delete")) >= 1
    assert run.clusters == []


# What is raised between pytest's own calls is seen by no hook but the outermost.
WINDOWS = {
    "pytest handles the first": "def pytest_keyboard_interrupt(excinfo): again()",
    "before any plugin ends its session": (
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_sessionfinish(session):\n    again()\n    return (yield)"
    ),
    "after all plugins ended their session": (
        "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
        "def pytest_sessionfinish(session):\n    yield\n    again()"
    ),
    "the summary is shown": "def pytest_terminal_summary(): again()",
    "plugins are let go": "@pytest.hookimpl(tryfirst=True)\ndef pytest_unconfigure(): again()",
    "before the cluster is deleted": (
        "def pytest_kindinfra_before_teardown(stack, directory): again()"
    ),
}
AGAIN = """

import os, signal, time

def again():
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        time.sleep({pause})
        for _ in range({times}):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

"""


@pytest.mark.parametrize(("pause", "times", "workers"), [(0.0, 3, 2), (1.1, 2, None)])
@pytest.mark.parametrize("window", WINDOWS)
def test_whenever_a_second_interrupt_comes_the_cluster_is_deleted(
    project: Project, window: str, pause: float, times: int, workers: int | None
) -> None:
    project.service("api")
    conftest = (project.folder / "conftest.py").read_text()
    hook = AGAIN.format(pause=pause, times=times) + WINDOWS[window]
    project.write("conftest.py", conftest + hook)
    project.tests(ENDLESS)

    running = project.start(workers=workers)
    running.until_at("in the test")
    running.signal(signal.SIGINT)
    run = running.finish()

    assert run.code == 2, run.text
    assert len(run.calls("create")) == len(run.calls("delete")) == 1
    assert run.clusters == []
    assert processes_of(project) == []
    assert "INTERNALERROR" not in run.text


@pytest.mark.parametrize("workers", [None, 2])
def test_a_third_interrupt_leaves_the_rest_to_the_provisioner_and_says_so(
    project: Project, workers: int | None
) -> None:
    project.service("api")
    project.behave("delete", until="go")
    project.tests(ENDLESS)

    running = project.start(workers=workers)
    running.until_at("in the test")
    running.signal(signal.SIGINT)
    running.until_called("delete")
    provisioner = running.provisioner()
    for _ in range(2):  # one within half a second of another is the same
        time.sleep(0.6)
        running.signal(signal.SIGINT)
    run = running.finish()

    (name,) = run.clusters
    assert run.code == 2, run.text
    assert f"the provisioner ends run {Path(run.folder).name} and its cluster {name}" in run.text
    assert provisioner
    assert is_alive(provisioner)
    project.open("go")
    assert eventually(lambda: not project.standing())
    assert eventually(lambda: not is_alive(provisioner))
    assert processes_of(project) == []
    assert run.report["outcome"]["state"] == "interrupted"


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, id="Ctrl-C in a terminal"),
        pytest.param(signal.SIGTERM, id="a service manager"),
    ],
)
def test_a_signal_for_the_whole_group_deletes_too(project: Project, number: signal.Signals) -> None:
    """Workers get it as well, and may end at once."""
    project.service("api")
    project.tests(ENDLESS)

    running = project.start(workers=2)
    running.until_at("in the test")
    running.signal(number, group=True)
    run = running.finish()

    assert run.code == 2, run.text
    assert len(run.calls("delete")) == 1
    assert run.clusters == []


def test_an_interrupt_before_anything_was_begun_does_nothing(project: Project) -> None:
    project.tests("""
        note("collecting")
        await_gate("never", seconds=20)

        def test_it(kindinfra): ...
    """)

    running = project.start(workers=None)
    running.until_at("collecting")
    running.signal(signal.SIGINT)
    run = running.finish()

    assert run.code == 2, run.text
    assert run.all_calls == []
    assert not re.search("INTERNALERROR|Traceback", run.text)

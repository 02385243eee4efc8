"""Tests that hold a lock, run alone, weigh more, or want their services fresh."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

LOCKED = """
import time

@pytest.mark.kindinfra("api", lock="db")
@pytest.mark.parametrize("number", range(4))
def test_one(number):
    time.sleep(0.2)

@pytest.mark.kindinfra(lock=["db", "queue"])
class TestBoth:
    @pytest.mark.parametrize("number", range(2))
    def test_both(self, number):
        time.sleep(0.2)
"""

ALONE = """
import time

@pytest.mark.kindinfra("api")
@pytest.mark.parametrize("number", range(6))
def test_plain(number):
    time.sleep(0.2)

@pytest.mark.kindinfra("api", exclusive=True)
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    time.sleep(0.2)
"""

HEAVY = """
import time

@pytest.mark.kindinfra("api", weight=2)
@pytest.mark.parametrize("number", range(4))
def test_heavy(number):
    time.sleep(0.3)
"""

KILLED = """
import signal

@pytest.mark.kindinfra("api", lock="db")
@pytest.mark.parametrize("number", range(4))
def test_one(number):
    note(f"with the lock {number}")
    if not os.path.exists("killed"):
        open("killed", "w").close()
        await_gate("said who waits")
        os.kill(os.getpid(), signal.SIGKILL)
"""

SAID_AT_ONCE = """
from story import open_gate
from pytest_kindinfra.session import heavy

heavy._SAID_AFTER = 0.0
write = heavy._line

def line(*about):
    open_gate("said who waits")
    return write(*about)

heavy._line = line
"""

FRESH = """
def pods(kindinfra, service):
    found = kindinfra.api.list_("/api/v1/pods", labelSelector=f"dev.kindinfra/service={service}")
    return sorted(pod["metadata"]["uid"] for pod in found)

BEFORE = {}

@pytest.mark.kindinfra("db", "api", "other")
def test_first(kindinfra):
    BEFORE.update({name: pods(kindinfra, name) for name in ("db", "api", "other", "migrate")})

@pytest.mark.kindinfra("other")
@pytest.mark.kindinfra("db", fresh=True)
def test_fresh(kindinfra):
    assert all(pods(kindinfra, name) != BEFORE[name] for name in ("db", "api", "migrate"))
    assert pods(kindinfra, "other") == BEFORE["other"]
"""

AGAIN = """
def pods(kindinfra):
    found = kindinfra.api.list_("/api/v1/pods", labelSelector="dev.kindinfra/service=api")
    return sorted(pod["metadata"]["uid"] for pod in found)

SEEN = []

@pytest.mark.flaky(reruns=2)
@pytest.mark.kindinfra("api", fresh="on-rerun")
def test_flaky(kindinfra):
    SEEN.append(pods(kindinfra))
    note(f"try {len(SEEN)}")
    assert len(SEEN) == 3
    assert SEEN[0] != SEEN[1] != SEEN[2]
"""

STEP = """
from pathlib import Path

def seed(stack):
    if Path("seeded").exists():
        raise ZeroDivisionError("the seeds are used up")
    Path("seeded").touch()
"""

FAILING_STEP = """
import time

@pytest.mark.kindinfra("seeds", fresh=True)
@pytest.mark.parametrize("number", range(2))
def test_fresh(number):
    pass

@pytest.mark.kindinfra("api", exclusive=True)
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    time.sleep(0.1)
"""

WRONG = """
@pytest.mark.kindinfra("api", locks="db")
def test_a(): pass

@pytest.mark.kindinfra("api", lock=3, exclusive="yes", weight=0, fresh="on-rerunn")
def test_b(): pass

@pytest.mark.kindinfra(fresh=True)
def test_c(): pass
"""


def spans(run: Run, name: str) -> list[tuple[float, float]]:
    """Return start and end of all tests of that name, by start."""
    starts = {what[6:]: when for what, when, _ in run.notes if what.startswith(f"start {name}")}
    ends = {what[4:]: when for what, when, _ in run.notes if what.startswith(f"end {name}")}
    return sorted((start, ends[test]) for test, start in starts.items())


def overlaps(run: Run, name: str, other: str) -> int:
    return sum(
        start < other_end and other_start < end
        for start, end in spans(run, name)
        for other_start, other_end in spans(run, other)
    )


@pytest.mark.parametrize("dist", ["load", "worksteal"])
def test_tests_with_the_same_lock_never_run_at_the_same_time(project: Project, dist: str) -> None:
    project.service("api")
    project.tests(LOCKED)

    run = project.run(f"--dist={dist}", workers=4)

    assert run.outcomes == {"passed": 6}
    assert all(end <= start for (_, end), (start, _) in pairwise(spans(run, "test_")))
    assert run.lines("tests waited ")


def test_an_exclusive_test_runs_alone(project: Project) -> None:
    project.service("api")
    project.tests(ALONE)

    run = project.run(workers=4)

    assert run.outcomes == {"passed": 8}
    assert overlaps(run, "test_alone", "test_plain") == 0
    assert overlaps(run, "test_plain", "test_plain") > 6


def test_weights_fill_the_capacity(project: Project) -> None:
    project.service("api")
    project.declare("[options]\ncapacity = 4")
    project.tests(HEAVY)

    run = project.run(workers=4)

    at_a_time = [
        sum(start <= begin < end for start, end in spans(run, "test_heavy"))
        for begin, _ in spans(run, "test_heavy")
    ]
    assert run.outcomes == {"passed": 4}
    assert max(at_a_time) == 2


def test_the_lock_of_a_killed_worker_is_free(
    project: Project,
) -> None:
    project.service("api")
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", conftest + SAID_AT_ONCE)
    project.tests(KILLED)

    run = project.run(workers=2)

    assert run.outcomes == {"passed": 3, "failed": 1}, run.text
    with_it = [(what[-1], worker) for what, _, worker in run.notes if "with the lock" in what]
    (killed, holder), (_, other) = with_it[:2]
    assert other != holder
    line = rf"{other} has waited \d+ s .* before it: \S+::test_one\[{killed}\] in {holder}$"
    assert re.search(line, run.out, re.MULTILINE), run.text


def test_waiting_for_a_turn_is_not_charged_to_a_tests_time(project: Project) -> None:
    project.service("api")
    project.write("pytest.ini", """
        [pytest]
        pythonpath = .
        filterwarnings = error
        addopts =
            -p no:hypothesispytest -p no:rerunfailures -p no:randomly -p no:asyncio -p no:django
        timeout = 8
    """)  # fmt: skip
    project.tests("""
        import time

        @pytest.mark.kindinfra("api", lock="db")
        @pytest.mark.parametrize("number", range(3))
        def test_one(number):
            time.sleep(4)
    """)

    assert project.run(workers=3).outcomes == {"passed": 3}


@pytest.mark.parametrize("workers", [None, 2])
def test_a_fresh_service_and_its_dependents_are_restarted(
    project: Project, workers: int | None
) -> None:
    project.service("db")
    project.service("migrate", kind="Job", needs=("db",))
    project.service("api", needs=("migrate",))
    project.service("other")
    project.tests(FRESH)
    how = () if workers is None else ("--dist=loadfile",)

    run = project.run(*how, workers=workers)

    assert run.outcomes == {"passed": 2}, run.text


@pytest.mark.parametrize("workers", [None, 2])
def test_a_step_that_raises_fails_only_the_test_that_wants_it_fresh(
    project: Project, workers: int | None
) -> None:
    """It used to end the session with an INTERNALERROR, while the other workers waited."""
    project.service("api")
    project.declare('[services.seeds]\nrun = "steps:seed"\nneeds = ["api"]\n')
    project.write("steps.py", STEP)
    project.tests(FAILING_STEP)

    run = project.run(workers=workers)

    assert run.outcomes == {"passed": 2, "errors": 2}, run.text
    assert run.lines("the services could not be made fresh: ")
    assert run.lines("ZeroDivisionError: the seeds are used up")
    assert "INTERNALERROR" not in run.text


@pytest.mark.parametrize("workers", [None, 2])
def test_a_repeated_attempt_gets_fresh_services(project: Project, workers: int | None) -> None:
    project.service("api")
    project.tests(AGAIN)

    run = project.run("-p", "rerunfailures", workers=workers)

    assert run.outcomes == {"passed": 1, "rerun": 2}, run.text


@pytest.mark.parametrize("workers", [None, 2])
def test_wrong_arguments_of_marks_are_said_at_once(project: Project, workers: int | None) -> None:
    project.service("api")
    project.tests(WRONG)

    run = project.run(workers=workers)

    assert run.code == pytest.ExitCode.USAGE_ERROR
    for problem in (
        'test_it.py::test_a: the mark has no argument locks=; did you mean "lock"?',
        "test_it.py::test_b: lock= takes a name or a list of names, not 3",
        "test_it.py::test_b: exclusive= takes True or False, not 'yes'",
        "test_it.py::test_b: weight= takes a whole number, 1 or more, not 0",
        "test_it.py::test_b: fresh= takes True, False or \"on-rerun\", not 'on-rerunn'; did you",
        "test_it.py::test_c: fresh= needs the name of a service",
    ):
        assert problem in run.text

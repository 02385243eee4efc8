"""Two or three interrupts at random distances, at random moments: nothing stays, exit code 2.

`make stress RUNS=100` tries so many seeds. A failed one is repeated by its number:
`KINDINFRA_STRESS=17-17 pytest tests/functional/test_interrupts_at_random.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.fakes import eventually
from tests.functional.project import is_alive, processes_of, provisioners
from tests.interrupting import interrupt, interrupting
from tests.seeds import seeds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.functional.project import Project, Running
    from tests.interrupting import Interrupting

STAGES = ("create", "built", "applied", "tests")
# The Job has no endpoint, so that no port is chosen and a temporary folder of its own does.
CASES = """
@pytest.fixture(scope="session", autouse=True)
def slow_to_end():
    yield
    import time
    time.sleep(0.1)

@pytest.mark.parametrize("number", range(8))
@pytest.mark.kindinfra("job")
def test_it(kindinfra, number):
    note(f"in test {os.getpid()}")
    await_gate("never", seconds=3)
"""


@pytest.mark.parametrize("seed", seeds(6))
def test_interrupts_at_random_leave_nothing_behind(
    project: Project, tmp_path: Path, seed: int
) -> None:
    how = interrupting(seed, STAGES)
    print(how)  # noqa: T201 - what a failure is repeated with
    project.service("job", image=True, kind="Job")
    project.tests(CASES)
    project.behave("create", seconds=0.3)
    project.behave("build job", seconds=0.2)
    project.behave("delete", seconds=seed % 5 * 0.1)
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    running = project.start(workers=how.workers, TMPDIR=str(temporary))
    _until(running, project, how)
    interrupt(running.process, how)
    run = running.finish()

    # A third one leaves the rest to the provisioner.
    assert eventually(lambda: not provisioners(running.process.pid))
    assert project.standing() == [], run.text
    if creates := run.calls("create"):
        deletes = [call for call in project.calls() if call.what == "delete"]
        assert deletes, run.text
        assert deletes[-1].start > creates[-1].start
    assert run.code == pytest.ExitCode.INTERRUPTED, run.text
    assert "INTERNALERROR" not in run.text
    assert eventually(lambda: not processes_of(project)), processes_of(project)
    workers = [int(what.split()[-1]) for what in project.told_in_order("in test")]
    assert eventually(lambda: not any(map(is_alive, workers)))
    assert [
        path.name
        for path in temporary.iterdir()
        if not path.name.startswith("pytest-of-") and path.name != "kindinfra"
    ] == []


def _until(running: Running, project: Project, how: Interrupting) -> None:
    if how.stage == "create":
        running.until_called("create")
    elif how.stage == "built":
        running.until_called("build job")
    elif how.stage == "applied":
        running.until_at("apply Job/job")
    else:
        running.until(lambda: project.told_in_order("in test"))


def test_seeds_are_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "KINDINFRA_STRESS", "17-19")

    assert list(seeds(2)) == [17, 18, 19]

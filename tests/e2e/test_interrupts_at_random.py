"""Two or three interrupts at random on a real cluster: no container, process or file stays.

`make stress-cluster RUNS=20` tries so many seeds; as on fakes, a failed one is repeated with
`KINDINFRA_STRESS=17-17`.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import PYTEST, left_behind, run_of, state_is_there, until
from tests.interrupting import interrupt, interrupting
from tests.seeds import seeds

if TYPE_CHECKING:
    from pathlib import Path

BEGUN = {"create": "cluster-name", "booting": "cluster-name", "up": "cluster", "tests": "cluster"}
CASES = """
import time, pytest

@pytest.mark.parametrize("number", range(8))
@pytest.mark.kindinfra
def test_it(kindinfra, number, tmp_path_factory):
    (tmp_path_factory.getbasetemp().parent / "in-a-test").touch()
    time.sleep(20)
"""


@pytest.mark.parametrize("seed", seeds(2))
def test_interrupts_at_random_leave_nothing_behind(tmp_path: Path, seed: int) -> None:
    how = interrupting(seed, tuple(BEGUN))
    print(how)  # noqa: T201 - what a failure is repeated with
    folder, temporary = tmp_path / "project", tmp_path / "tmp"
    for path in (folder, temporary):
        path.mkdir()
    (folder / "pytest.ini").touch()
    (folder / "test_it.py").write_text(CASES)
    networks = _names("network", "ls")
    workers = ["-p", "no:xdist"] if how.workers is None else ["-n", str(how.workers)]

    process = subprocess.Popen(
        [*PYTEST, *workers], cwd=folder, env={**os.environ, "TMPDIR": str(temporary)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    _until(folder, how.stage, temporary)
    interrupt(process, how)
    output, _ = process.communicate(timeout=300)

    run = run_of(folder, process.returncode, output)
    assert run.exit_code == pytest.ExitCode.INTERRUPTED, output
    assert "INTERNALERROR" not in output
    until(lambda: left_behind(folder) == [], within=20)  # after a third one without pytest
    assert _names("network", "ls") - networks <= {"kind"}
    until(lambda: not _processes_of(run.folder.name, folder), within=20)
    kept = ("pytest-of-", "kindinfra")
    assert [one.name for one in temporary.iterdir() if not one.name.startswith(kept)] == []
    assert [one.name for one in temporary.glob("kindinfra-*")] == []


def _until(folder: Path, stage: str, temporary: Path) -> None:
    until(lambda: state_is_there(folder, BEGUN[stage]))
    if stage == "booting":
        until(lambda: list(folder.glob(".kindinfra/2*/kind-create.log")))
    elif stage == "tests":
        until(lambda: list(temporary.rglob("in-a-test")))


def _names(*words: str) -> set[str]:
    argv = ["docker", *words, "--format", "{{.Name}}"]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


def _processes_of(run: str, folder: Path) -> list[str]:
    """Return the command lines and folders of processes that belong to the run."""
    found = []
    for path in folder.parents[-1].glob("proc/[0-9]*"):
        try:
            words, where = (path / "cmdline").read_text(), str((path / "cwd").readlink())
        except OSError:
            continue
        if words and (run in words or where == str(folder)):
            found.append(words.replace("\0", " "))
    return found

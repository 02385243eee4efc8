"""How runs end on a real cluster: whatever happens, nothing of theirs stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_kindinfra.kube.cluster import Kube
from tests.e2e.runs import (
    background_pytest,
    kindinfra,
    left_behind,
    run_of,
    run_pytest,
    state_is_there,
    until,
)
from tests.functional.project import provisioners

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.runs import Run

QUICK = ("--deselect", "cases.py::test_slow", "cases.py")


def test_a_crashing_service_is_told_with_the_last_lines_of_its_log(small: Path) -> None:
    dockerfile = small / "svc" / "Dockerfile"
    crash = 'CMD ["sh", "-c", "echo no licence found; exit 7"]'
    dockerfile.write_text(f"{dockerfile.read_text()}{crash}\n")

    run = run_pytest(small, "-p", "no:xdist", *QUICK)

    assert run.exit_code == 1
    assert re.search("2 passed.* 1 error", run.output), run.output
    assert "no licence found" in run.report["outcome"]["failures"]["web"]
    assert list((run.folder / "pods").glob("*web*.log"))


@pytest.mark.alone
def test_only_gc_removes_what_a_killed_run_leaves(small: Path) -> None:
    process = background_pytest(small, "-n", "2", "cases.py")
    until(lambda: state_is_there(small, "cluster"))
    assert kindinfra("gc") == "nothing was left behind\n"

    process.send_signal(signal.SIGSTOP)  # or it would see the end of the other
    for provisioner in provisioners(process.pid):
        os.kill(provisioner, signal.SIGKILL)
    process.kill()
    process.communicate(timeout=60)
    (name,) = left_behind(small)

    # It names the registry of ours too if an earlier run on this host left one.
    assert f"deleted cluster {name}" in kindinfra("gc").splitlines()
    assert left_behind(small) == []


BEGUN = {"create": "cluster-name", "deploy": "cluster", "tests": "service-redis"}
"""Stages that a state file shows."""
PROGRAMS = {"build": "build", "load": "import", "teardown": "delete"}
"""Stages that a program of the provisioner shows, by one of its words."""
WORKERS = {"no xdist": ("-p", "no:xdist"), "-n 2": ("-n", "2")}
STAGES = [
    *((stage, workers) for stage in BEGUN for workers in WORKERS),
    *(("plan", "-n 2"), ("build", "no xdist"), ("load", "-n 2"), ("teardown", "no xdist")),
]
"""Each stage; the fakes have all of them with and without xdist."""


def _begin(small: Path, stage: str, workers: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start a run, and return when it has come to the stage."""
    dockerfile = small / "svc" / "Dockerfile"
    slow = {"build": "RUN sleep 60\n", "load": "RUN head -c 200000000 /dev/urandom >/large\n"}
    dockerfile.write_text(f"{dockerfile.read_text()}{slow.get(stage, '')}")
    tests = "web" if stage == "teardown" else "slow or web"
    process = background_pytest(small, *WORKERS[workers], "cases.py", "-k", tests, env=env)
    if stage in BEGUN:
        until(lambda: state_is_there(small, BEGUN[stage]))
    elif stage == "plan":
        until(lambda: provisioners(process.pid))
    else:
        until(lambda: _runs(process.pid, PROGRAMS[stage]))
    if stage in {"create", "build"}:
        until(lambda: left_behind(small))
    return process


def _runs(process_id: int, word: str) -> bool:
    """Whether the provisioner of a run has started a program with this word."""
    with suppress(psutil.NoSuchProcess):
        for provisioner in provisioners(process_id):
            programs = psutil.Process(provisioner).children(recursive=True)
            return any(word in program.cmdline() for program in programs)
    return False


def _programs_in(temporary: Path) -> list[str]:
    """Return the processes that a run with this temporary folder has started and that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if not ended and process.environ().get("TMPDIR") == str(temporary):
                found.append(" ".join(process.cmdline()))
    return found


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.mark.alone
@pytest.mark.parametrize(("stage", "workers"), STAGES)
def test_nothing_is_left_of_a_run_whose_main_process_is_killed(
    small: Path, temporary: Path, stage: str, workers: str
) -> None:
    volumes, networks = (_names(kind, "ls") for kind in ("volume", "network"))
    process = _begin(small, stage, workers, {"TMPDIR": str(temporary)})

    process.kill()
    process.communicate(timeout=60)
    killed = time.monotonic()

    until(lambda: not left_behind(small) and not _programs_in(temporary), within=15)
    print(f"nothing was left after {time.monotonic() - killed:.1f} s")  # noqa: T201
    assert _names("volume", "ls") <= volumes
    assert _names("network", "ls") - networks <= {"kind"}
    kept = ("pytest-of-", "kindinfra")
    assert [one.name for one in temporary.iterdir() if not one.name.startswith(kept)] == []
    state = {"plan": None, "teardown": "passed"}.get(stage, "interrupted")
    assert run_of(small, 0, "").report.get("outcome", {}).get("state") == state


@pytest.mark.parametrize("stage", ["plan", "build", "load", "deploy", "teardown"])
def test_pytest_deletes_the_cluster_itself_if_the_provisioner_was_killed(
    small: Path, temporary: Path, stage: str
) -> None:
    process = _begin(small, stage, "no xdist", {"TMPDIR": str(temporary)})

    (provisioner,) = provisioners(process.pid)
    os.kill(provisioner, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)

    assert "the provisioner, the process that brings the stack up, ended before" in output
    assert left_behind(small) == []
    assert _programs_in(temporary) == []


def _names(*words: str) -> set[str]:
    argv = ["docker", *words, "--format", "{{.Name}}"]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture
def _nothing_stays(small: Path) -> Iterator[None]:
    """Delete what a test of kept clusters leaves if it fails."""
    yield
    for name in left_behind(small):
        delete = ["kind", "delete", "cluster", "--name", name]
        subprocess.run(delete, check=False, capture_output=True, timeout=120)


@pytest.mark.alone
@pytest.mark.usefixtures("_nothing_stays")
def test_a_kept_cluster_stays_until_the_printed_command_deletes_it(small: Path) -> None:
    dockerfile = small / "svc" / "Dockerfile"
    talks = 'CMD ["httpd", "-f", "-v", "-p", "8080", "-h", "/www"]'
    dockerfile.write_text(f"{dockerfile.read_text()}{talks}\n")
    cases = ("fixture_cases.py", "failing_cases.py")
    run = run_pytest(small, "-n", "2", "--kindinfra-keep=on-failure", *QUICK, *cases)
    (name,) = left_behind(small)
    assert run.exit_code == 1, run.output
    assert re.search(r"\b1 failed\b", run.output), run.output
    _look_at_the_failed_test(small, run)
    assert kindinfra("gc") == "nothing was left behind\n"

    (line,) = [line for line in run.output.splitlines() if "delete it:" in line]
    command = line.partition("delete it:")[2].split()
    assert name in command
    subprocess.run(command, check=True, timeout=120)

    assert left_behind(small) == []


def _look_at_its_attempt(run: Run, report: str) -> None:
    """What its services said is in files too, those of no other service, and the page links it."""
    found = re.search(r"-+ kindinfra evidence -+\n(.+)\n", report)
    assert found, run.output
    folder = Path(found[1])
    (log,) = folder.glob("default.web-*.web.log")
    assert folder.parent.parent == run.folder / "attempts"
    assert "response:404" in log.read_text()
    assert "on purpose" in (folder / "failure-call.txt").read_text()
    assert not list(folder.glob("*redis*"))
    assert (
        f"{folder.relative_to(run.folder)}/{log.name}" in (run.folder / "timeline.html").read_text()
    )


def _look_at_the_failed_test(small: Path, run: Run) -> None:
    """What its pods said is in its report, its namespace is there, others were made quickly."""
    report = run.output.partition("____ test_fails ____")[2]
    said = re.search(r"-+ kindinfra log of web-\S+/web -+\n(.+?)\n(?:---|===)", report, re.DOTALL)
    assert said, run.output
    assert "response:404" in said[1]
    _look_at_its_attempt(run, report)
    kept = (small / "failed-namespace").read_text()
    kube = Kube(run.folder / "kubeconfig")
    found = kube.get(f"/api/v1/namespaces/{kept}")
    kube.close()
    assert found
    assert found["status"]["phase"] == "Active"
    seconds = (small / "seconds").read_text().split()
    print(f"seconds for a namespace each: {' '.join(seconds)}")  # noqa: T201
    assert float(seconds[len(seconds) // 2]) < 0.5

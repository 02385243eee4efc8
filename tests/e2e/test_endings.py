"""How runs end on a real cluster: whatever happens, nothing of theirs stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube.cluster import Kube
from tests.e2e.runs import (
    background_pytest,
    kindinfra,
    left_behind,
    run_pytest,
    state_is_there,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
def test_what_a_killed_run_leaves_is_removed_by_gc_and_by_nobody_before(small: Path) -> None:
    process = background_pytest(small, "-n", "2", "cases.py")
    until(lambda: state_is_there(small, "cluster"))
    assert kindinfra("gc") == "nothing was left behind\n"

    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    (name,) = left_behind(small)

    # It names the registry of ours too if an earlier run on this host left one.
    assert f"deleted cluster {name}" in kindinfra("gc").splitlines()
    assert left_behind(small) == []


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


def _look_at_the_failed_test(small: Path, run: Run) -> None:
    """What its pods said is in its report, its namespace is there, others were made quickly."""
    report = run.output.partition("____ test_fails ____")[2]
    said = re.search(r"-+ kindinfra log of web-\S+/web -+\n(.+?)\n(?:---|===)", report, re.DOTALL)
    assert said, run.output
    assert "response:404" in said[1]
    kept = (small / "failed-namespace").read_text()
    kube = Kube(run.folder / "kubeconfig")
    found = kube.get(f"/api/v1/namespaces/{kept}")
    kube.close()
    assert found
    assert found["status"]["phase"] == "Active"
    seconds = (small / "seconds").read_text().split()
    print(f"seconds for a namespace each: {' '.join(seconds)}")  # noqa: T201
    assert float(seconds[len(seconds) // 2]) < 0.5

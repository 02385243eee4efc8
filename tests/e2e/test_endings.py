"""How runs end on a real cluster: whatever happens, nothing of theirs stays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.runs import background_pytest, left_behind, run_pytest, until

SMALL = Path(__file__).parent / "small"
QUICK = ("--deselect", "cases.py::test_slow", "cases.py")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    shutil.copytree(SMALL, tmp_path / "small")
    (tmp_path / "small" / "pytest.ini").touch()
    return tmp_path / "small"


def kindinfra(*arguments: str) -> str:
    program = Path(sys.executable).with_name("kindinfra")
    argv = [str(program), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_failed_build_fails_only_the_tests_that_need_it(small: Path) -> None:
    dockerfile = small / "svc" / "Dockerfile"
    dockerfile.write_text(f"{dockerfile.read_text()}RUN echo compiling && exit 3\n")

    run = run_pytest(small, "-n", "2", *QUICK)

    assert run.exit_code == 1
    assert re.search("2 passed.* 1 error", run.output), run.output
    assert run.report["outcome"]["state"] == "failed"
    assert "exit code: 3" in run.report["outcome"]["failures"]["web"]


def test_a_crashing_service_is_told_with_the_last_lines_of_its_log(small: Path) -> None:
    dockerfile = small / "svc" / "Dockerfile"
    crash = 'CMD ["sh", "-c", "echo no licence found; exit 7"]'
    dockerfile.write_text(f"{dockerfile.read_text()}{crash}\n")

    run = run_pytest(small, "-p", "no:xdist", *QUICK)

    assert run.exit_code == 1
    assert re.search("2 passed.* 1 error", run.output), run.output
    assert "no licence found" in run.report["outcome"]["failures"]["web"]
    assert list((run.folder / "pods").glob("*web*.log"))


@pytest.mark.parametrize("moment", ["cluster-name", "service-redis"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_a_signal_ends_the_run_and_deletes_the_cluster(
    small: Path, moment: str, number: signal.Signals
) -> None:
    process = background_pytest(small, "-n", "2", "cases.py")
    until(lambda: list(small.glob(f".kindinfra/2*/state/{moment}.json")))

    process.send_signal(number)
    output, _ = process.communicate(timeout=120)

    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert left_behind(small) == []


def test_what_a_killed_run_leaves_is_removed_by_gc_and_by_nobody_before(small: Path) -> None:
    process = background_pytest(small, "-n", "2", "cases.py")
    until(lambda: list(small.glob(".kindinfra/2*/state/cluster.json")))
    assert kindinfra("gc") == "nothing was left behind\n"

    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    (name,) = left_behind(small)

    assert kindinfra("gc") == f"deleted cluster {name}\n"
    assert left_behind(small) == []


def test_a_kept_cluster_stays_until_the_printed_command_deletes_it(small: Path) -> None:
    run = run_pytest(small, "-n", "2", "--kindinfra-keep=always", *QUICK, "fixture_cases.py")
    (name,) = left_behind(small)
    assert run.exit_code == 0, run.output
    assert kindinfra("gc") == "nothing was left behind\n"

    (line,) = [line for line in run.output.splitlines() if "delete it:" in line]
    command = line.partition("delete it:")[2].split()
    assert name in command
    subprocess.run(command, check=True, timeout=120)

    assert left_behind(small) == []

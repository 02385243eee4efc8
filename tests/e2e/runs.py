"""One run of real pytest in a folder, and what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.system.files import free_port
from pytest_kindinfra.system.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
NODE_IMAGE = os.environ.get("KINDINFRA_NODE_IMAGE", "kindest/node:v1.34.4")
LONGEST_RUN = 900
LONGEST_WAIT = 300
NAMES = ("--format", "{{.Names}}")
PYTEST = (
    *(sys.executable, "-m", "pytest", "--color=no"),
    *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:rerunfailures"),
    *("-p", "no:asyncio"),  # it warns where it is not configured
)


@dataclass(frozen=True)
class Run:
    """One finished run of pytest.

    Attributes:
        exit_code: pytest's.
        output: What it printed.
        report: run.json; empty if there is none.
        folder: The run directory.
    """

    exit_code: int
    output: str
    report: dict[str, Any]
    folder: Path

    def phase(self, name: str) -> dict[str, Any]:
        """Return the one phase of that name."""
        (found,) = [phase for phase in self.report["phases"] if phase["name"] == name]
        return dict(found)

    def phases(self, kind: str) -> list[dict[str, Any]]:
        return [phase for phase in self.report["phases"] if phase["kind"] == kind]


def environment(**variables: str) -> dict[str, str]:
    """Return what a shell of the user's would have: nothing of the run that this test is part of.

    An example that reads `PYTEST_XDIST_WORKER` took our worker for its own.
    """
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    return {**own, "KINDINFRA_NODE_IMAGE": NODE_IMAGE, **variables}


def run_printed(script: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run lines that a page prints in one shell, with the programs of this environment.

    The node image is that of the test machines: where there is no network, kind's own default
    cannot be pulled.
    """
    variables = environment(
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        PYTEST_ADDOPTS="-p no:randomly -p no:cacheprovider -p no:asyncio",
    )
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True,
        timeout=LONGEST_RUN, check=False, env=variables,
    )  # fmt: skip


def run_pytest(folder: Path, *arguments: str) -> Run:
    """Run pytest in `folder` and read what it left."""
    argv = [*PYTEST, *arguments]
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=LONGEST_RUN, check=False,
        env=environment(),
    )  # fmt: skip
    return run_of(folder, done.returncode, done.stdout + done.stderr)


def run_of(folder: Path, exit_code: int, output: str) -> Run:
    """Return what the newest run in `folder` left."""
    latest = (folder / ".kindinfra" / "latest").resolve()
    file = latest / "run.json"
    report = json.loads(file.read_text()) if file.exists() else {}
    return Run(exit_code, output, report, latest)


def background_pytest(
    folder: Path, *arguments: str, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start pytest in `folder`, to be disturbed."""
    argv = [*PYTEST, *arguments]
    return subprocess.Popen(
        argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment(**(env or {})),
    )  # fmt: skip


def kindinfra(*arguments: str) -> str:
    """Run the command and return what it printed."""
    program = Path(sys.executable).with_name("kindinfra")
    argv = [str(program), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout


def run_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, whatever comes of it."""
    program = Path(sys.executable).with_name("kindinfra")
    return subprocess.run(
        [str(program), *arguments], cwd=folder, capture_output=True, text=True,
        timeout=LONGEST_WAIT, check=False,
    )  # fmt: skip


def until(there: Callable[[], object], *, within: float = LONGEST_WAIT) -> None:
    """Wait until `there()` is true, so many seconds at the most."""
    end = time.monotonic() + within
    while not there():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def state_is_there(folder: Path, name: str) -> bool:
    """Whether a state file holds what is settled, rather than being in the making."""
    return any(
        '"running"' not in path.read_text()
        for path in folder.glob(f".kindinfra/2*/state/{name}.json")
    )


def left_behind(folder: Path, artifacts: Path | None = None) -> list[str]:
    """Return the clusters that runs in `folder` have left, found by their run directories.

    Args:
        folder: Where pytest ran.
        artifacts: A second folder of run directories.
    """
    runs = [*folder.glob(".kindinfra/2*"), *(artifacts.glob("2*") if artifacts else ())]
    there = {*_lines("kind", "get", "clusters"), *_lines("docker", "ps", "-a", *NAMES)}
    names = {f"kindinfra-{run.name}" for run in runs}
    names |= {home.name for home in folder.glob(".kindinfra/reused/*")}
    return sorted(name for name in names if any(one.startswith(name) for one in there))


def _lines(*argv: str) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()


def _docker(*words: str) -> str:
    argv = ["docker", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout


def _answers(address: str) -> bool:
    with suppress(OSError):
        return bool(urllib.request.urlopen(f"http://{address}/v2/", timeout=5).status)
    return False


@contextmanager
def registry() -> Iterator[str]:
    """Run a registry of its own; give its address once it answers.

    Its port is named: Docker draws another one when the container joins a cluster's network.
    """
    with ExitStack() as sockets:
        port = free_port(sockets)
    name = f"kindinfra-e2e-{uuid.uuid4().hex[:8]}"
    _docker("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:5000", "registry:2")
    try:
        address = _docker("port", name, "5000/tcp").strip()
        wait_until(partial(_answers, address), Deadline.after(30), every=0.1)
        yield address
    finally:
        _docker("rm", "--force", "--volumes", name)

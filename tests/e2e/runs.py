"""One run of real pytest in a folder, and what it left."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LONGEST_RUN = 900


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


def run_pytest(folder: Path, *arguments: str) -> Run:
    """Run pytest in `folder` and read what it left."""
    artifacts = folder / ".kindinfra"
    argv = [sys.executable, "-m", "pytest", "--color=no", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=LONGEST_RUN, check=False
    )
    file = artifacts / "latest" / "run.json"
    report = json.loads(file.read_text()) if file.exists() else {}
    return Run(done.returncode, done.stdout + done.stderr, report, (artifacts / "latest").resolve())


def left_behind() -> list[str]:
    """Return the containers and clusters that runs of ours have left."""
    containers = _lines("docker", "ps", "--all", "--format", "{{.Names}}")
    clusters = _lines("kind", "get", "clusters")
    return [name for name in (*containers, *clusters) if name.startswith("kindinfra-")]


def _lines(*argv: str) -> list[str]:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()

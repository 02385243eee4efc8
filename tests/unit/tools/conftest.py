"""A machine made of fake programs, on which the set-up scripts run for real."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# What the scripts may use of the real machine. No engine, no tool of the cluster, no Go.
REAL = [
    "awk",
    "basename",
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "dirname",
    "env",
    "find",
    "flock",
    "grep",
    "gzip",
    "head",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "printf",
    "rm",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "tail",
    "tee",
    "timeout",
    "touch",
    "tr",
    "true",
    "uname",
    "wc",
]


@dataclass(frozen=True)
class Machine:
    """Its programs, its caches, and what its engine was asked."""

    home: Path

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def cache(self) -> Path:
        return self.home / "cache" / "kindinfra"

    @property
    def calls(self) -> list[str]:
        log = self.home / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def program(self, name: str, script: str) -> None:
        """A program of that name; each of its calls is recorded."""
        file = self.bin / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >>{self.home}/calls\n{script}\n')
        file.chmod(0o755)

    def run(self, *command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            env={
                "PATH": str(self.bin),
                "HOME": str(self.home),
                "XDG_CACHE_HOME": str(self.home / "cache"),
                "KINDINFRA_BIN": str(self.home / "tools"),
            }
            | env,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def bash(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A script that starts as those in tools/ do."""
        head = f"set -euo pipefail; part=trial; source {ROOT}/tools/machine/lib.sh; "
        return self.run("bash", "-c", head + script, **env)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One without an engine, whose user is not root."""
    machine = Machine(tmp_path)
    machine.bin.mkdir()
    for name in REAL:
        found = shutil.which(name)
        if found:
            (machine.bin / name).symlink_to(found)
    machine.program("id", '[ "$1" = -un ] && echo somebody || echo 1000')
    (tmp_path / "calls").unlink(missing_ok=True)
    return machine


@pytest.fixture
def with_docker(machine: Machine) -> Machine:
    """One whose Docker knows the images in the folder `images`: a file each, holding its labels."""
    (machine.home / "images").mkdir()
    machine.program(
        "docker",
        f"""
        cd {machine.home}/images
        file() {{ local name=${{1#docker.io/}}; name=${{name#library/}}; echo "${{name//\\//+}}"; }}
        case "$1 $2" in
        "version -f") echo 26.1 ;;
        "image inspect") cat "$(file "${{@: -1}}")" 2>/dev/null || exit 1 ;;
        "load "*) while read -r name labels; do echo "$labels" >"$(file "$name")"; done ;;
        "tag "*) cp "$(file "$2")" "$(file "$3")" ;;
        "rmi "*) rm "$(file "$2")" ;;
        "pull "*) echo "Error: no such host" >&2; exit 1 ;;
        esac""",
    )
    # "Compressed" archives are plain text here.
    machine.program("zstd", 'cat "${@: -1}"')
    return machine

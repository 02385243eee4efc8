"""Runs on one cluster after another: nothing again that is the same, and all that is not."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import Run, left_behind, run_command, run_pytest

if TYPE_CHECKING:
    from pathlib import Path

REUSE = ("cases.py", "--kindinfra-reuse", "-k", "answers or endpoint")
CONFIG = """\
---
apiVersion: v1
kind: ConfigMap
metadata: {name: web-settings}
data: {greeting: "GREETING"}
"""


@dataclass(frozen=True)
class Seen:
    """A run, and the pods that were there after it: service to uid and image."""

    run: Run
    pods: dict[str, tuple[str, str]]

    @property
    def kinds(self) -> set[str]:
        return {phase["kind"] for phase in self.run.report["phases"]}


def pods(home: Path) -> dict[str, tuple[str, str]]:
    argv = ["kubectl", "--kubeconfig", str(home / "kubeconfig"), "get", "pods", "-o", "json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    return {
        pod["metadata"]["labels"]["dev.kindinfra/service"]: (
            pod["metadata"]["uid"],
            pod["spec"]["containers"][0]["image"],
        )
        for pod in json.loads(done.stdout)["items"]
        if "deletionTimestamp" not in pod["metadata"]
    }


def seen(folder: Path, *arguments: str) -> Seen:
    run = run_pytest(folder, *REUSE, *arguments)
    assert run.exit_code == 0, run.output
    (home,) = (folder / ".kindinfra" / "reused").iterdir()
    return Seen(run, pods(home))


@pytest.mark.timeout(400)
def test_a_cluster_is_shared_by_runs_and_commands_until_it_is_ended(small: Path) -> None:
    manifest = (small / "web.yaml").read_text()
    first = seen(small)
    assert {"create", "build", "load"} <= first.kinds
    try:
        _go_on(small, first, manifest)
    finally:
        down = run_command(small, "down")
    assert down.returncode == 0, down.stderr
    assert left_behind(small) == []
    assert run_command(small, "down").stdout.startswith("there is no cluster")


def _go_on(small: Path, first: Seen, manifest: str) -> None:
    unchanged = seen(small, "-n", "2")
    assert unchanged.kinds == {"take", "deploy", "wait"}
    assert unchanged.pods == first.pods

    (small / "svc" / "more.txt").write_text("one byte")
    edited = seen(small)
    assert {phase["name"] for phase in edited.run.report["phases"]} >= {"build web", "load web"}
    assert [phase["name"] for phase in edited.run.phases("load")] == ["load web"]
    assert edited.pods["redis"] == first.pods["redis"]
    assert edited.pods["web"][0] != first.pods["web"][0]
    assert edited.pods["web"][1] != first.pods["web"][1]

    (small / "web.yaml").write_text(manifest + CONFIG.replace("GREETING", "hello"))
    with_config = seen(small)
    (small / "web.yaml").write_text(manifest + CONFIG.replace("GREETING", "goodbye"))
    changed = seen(small)
    assert changed.kinds == {"take", "deploy", "wait"}
    assert changed.pods["redis"] == first.pods["redis"]
    assert changed.pods["web"][0] != with_config.pods["web"][0]
    assert changed.pods["web"][1] == with_config.pods["web"][1]

    up, status = run_command(small, "up"), run_command(small, "status")
    assert (up.returncode, status.returncode) == (0, 0), up.stdout + status.stdout
    (home,) = (small / ".kindinfra" / "reused").iterdir()
    assert pods(home) == changed.pods
    assert "  web                  ready" in status.stdout

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
MONOREPO_CASES = """\
import urllib.request
from pathlib import Path

import pytest


@pytest.mark.kindinfra("one", "two")
@pytest.mark.parametrize("name", ["one", "two"])
def test_it_answers(kindinfra, name):
    with urllib.request.urlopen(kindinfra.url(name), timeout=10) as answer:
        assert answer.read() == Path(name, "index.html").read_bytes()
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


@pytest.fixture
def monorepo(small: Path) -> Path:
    """Two images whose context is the root of the repository; each copies its own folder.

    A copied folder has its own times, so that the layer is the same without the build cache too.
    """
    manifest = (small / "web.yaml").read_text()
    dockerfile = (small / "svc" / "Dockerfile").read_text()
    tables = ['[cluster]\nnode_image = "kindest/node:v1.34.4"\n']
    for name in ("one", "two"):
        (small / name).mkdir()
        (small / name / "index.html").write_text("hello\n")
        (small / name / "Dockerfile").write_text(
            dockerfile.replace("COPY index.html", f"COPY {name}")
        )
        text = manifest.replace("name: web", f"name: {name}").replace("app: web", f"app: {name}")
        (small / f"{name}.yaml").write_text(text.replace("image: web", f"image: {name}"))
        tables.append(
            f'[images.{name}]\ndockerfile = "{name}/Dockerfile"\n'
            f'[services.{name}]\nmanifests = ["{name}.yaml"]\n'
            'endpoints.http = { port = 80, path = "/" }\n'
        )
    (small / "kindinfra.toml").write_text("".join(tables))
    (small / "README.md").write_text("a repository\n")
    (small / "cases.py").write_text(MONOREPO_CASES)
    return small


def loads(run: Run) -> list[str]:
    return [phase["name"] for phase in run.phases("load")]


@pytest.mark.timeout(400)
def test_an_edit_loads_and_restarts_what_holds_it_though_the_whole_root_is_each_context(
    monorepo: Path,
) -> None:
    first = seen(monorepo)
    try:
        (monorepo / "README.md").write_text("a repository, described\n")
        outside = seen(monorepo)
        (monorepo / "two" / "index.html").write_text("changed\n")
        inside = seen(monorepo)
    finally:
        down = run_command(monorepo, "down")

    assert down.returncode == 0, down.stderr
    assert sorted(loads(first.run)) == ["load one", "load two"]
    assert outside.kinds == {"take", "build", "deploy", "wait"}
    assert len(outside.run.phases("build")) == len(inside.run.phases("build")) == 2
    assert loads(outside.run) == []
    assert outside.pods == first.pods
    assert loads(inside.run) == ["load two"]
    assert inside.pods["one"] == first.pods["one"]
    assert inside.pods["two"][0] != first.pods["two"][0]
    assert inside.pods["two"][1] != first.pods["two"][1]


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
    in_context = seen(small)
    assert in_context.kinds == {"take", "build", "deploy", "wait"}
    assert in_context.pods == first.pods

    dockerfile = small / "svc" / "Dockerfile"
    dockerfile.write_text(f"{dockerfile.read_text()}COPY more.txt /www/\n")
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

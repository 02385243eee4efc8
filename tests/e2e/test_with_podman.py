"""A whole run with podman: builds, kind nodes, loads, endpoints, and what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT, Run, run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWERS = (
    shutil.which("podman") is not None
    and not subprocess.run(
        ["podman", "version"], capture_output=True, check=False, timeout=60
    ).returncode
)
pytestmark = pytest.mark.skipif(not ANSWERS, reason="podman is not here, or does not answer")

DOCKERFILE = """\
FROM base AS page
COPY . /sent
RUN --mount=type=secret,id=token mkdir /www && wc -c </run/secrets/token >/www/length
FROM page
COPY index.html /www/
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""
DECLARED = """
[images.base]
context = "base"
[images.web]
context = "svc"
needs = ["base"]
ignore = ["docs/**", "!docs/kept.txt"]
build_options = ["--secret", "id=token,env=E2E_TOKEN", "--platform", "linux/amd64"]
"""


def podman(*words: str) -> str:
    return subprocess.run(
        ["podman", *words], capture_output=True, text=True, timeout=120, check=True
    ).stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The small project with an image more, from which the other one starts."""
    folder = tmp_path_factory.mktemp("podman") / "small"
    shutil.copytree(ROOT / "tests" / "e2e" / "small", folder)
    (folder / "pytest.ini").touch()
    (folder / "svc" / "docs").mkdir()
    for name in ("kept.txt", "left.txt"):
        (folder / "svc" / "docs" / name).write_text(name)
    (folder / "base").mkdir()
    mark = f"{folder.parent.name}-{id(folder)}"
    (folder / "base" / "Dockerfile").write_text(f"FROM busybox\nLABEL dev.kindinfra.e2e={mark}\n")
    (folder / "svc" / "Dockerfile").write_text(DOCKERFILE)
    declaration = folder / "kindinfra.toml"
    text = declaration.read_text()
    declaration.write_text(text.replace('[images.web]\ncontext = "svc"\n', DECLARED))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2E_TOKEN", "tok-4f3a9c2e77")
        patch.setenv("KINDINFRA_ENGINE", "podman")
        yield folder
    for file in folder.rglob("state/image-*.json"):
        image = json.loads(file.read_text())["value"]["image"]
        names = [image["reference"], *image["contexts"]]
        subprocess.run(["podman", "image", "rm", "-f", *names], check=False, capture_output=True)


@pytest.fixture(scope="module")
def run(shop: Path) -> Run:
    return run_pytest(shop, "cases.py", "-k", "not slow", "-n", "4")


def test_services_are_built_loaded_and_answer_on_their_host_ports(run: Run) -> None:
    assert run.exit_code == 0, run.output
    assert run.report["outcome"] == {"state": "passed", "failures": {}, "kept": False}
    assert sorted(phase["subject"] for phase in run.phases("build")) == ["base", "web"]
    assert " on podman" in run.output


def test_no_kind_node_stays(run: Run) -> None:
    names = podman("ps", "--all", "--format", "{{.Names}}").split()

    assert [name for name in names if run.folder.name in name] == []


def test_what_is_left_out_is_not_sent_and_no_secret_stays(run: Run) -> None:
    reference = run.report["images"]["web"]["reference"]
    find = ("find", "/sent", "/www", "-type", "f")

    assert sorted(podman("run", "--rm", "--network=none", reference, *find).split()) == [
        *("/sent/Dockerfile", "/sent/docs/kept.txt", "/sent/index.html"),
        *("/www/index.html", "/www/length"),
    ]
    assert "tok-4f3a9c2e77" not in podman("history", "--no-trunc", reference)
    assert "tok-4f3a9c2e77" not in (run.folder / "build" / "web.log").read_text()


def test_nothing_is_built_a_second_time(run: Run, shop: Path) -> None:
    program = Path(sys.executable).with_name("kindinfra")
    done = subprocess.run(
        [str(program), "build"], cwd=shop, capture_output=True, text=True, timeout=120,
        check=False, env={**os.environ},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{name:<20} {run.report['images'][name]['reference']} (unchanged)"
        for name in ("base", "web")
    ]

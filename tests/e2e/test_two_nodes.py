"""A cluster of two kind nodes: pods on both, images in both, and every hook on the way."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import ROOT, Run, left_behind, run_pytest

if TYPE_CHECKING:
    from pathlib import Path

CERTIFICATE = (
    "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tls -keyout cert.pem -out key.pem"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, with a certificate for its server."""
    copy = tmp_path_factory.mktemp("two") / "two_nodes"
    shutil.copytree(ROOT / "tests" / "e2e" / "two_nodes", copy)
    (copy / "pytest.ini").touch()
    tls = copy / "tls"
    subprocess.run(["openssl", *CERTIFICATE.split()], cwd=tls, check=True, capture_output=True)
    key, certificate = (tls / "cert.pem").read_text(), (tls / "key.pem").read_text()
    (tls / "cert.pem").write_text(key + certificate)
    (tls / "key.pem").unlink()
    return copy


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return run_pytest(folder, "cases.py", "-n", "2")


def test_tests_in_two_workers_find_everything_on_both_kind_nodes(run: Run, folder: Path) -> None:
    assert run.exit_code == 0, run.output
    assert "4 passed" in run.output
    assert left_behind(folder) == []


def test_every_hook_is_called_once_and_in_its_turn(run: Run, folder: Path) -> None:
    lines = (folder / "hooks.txt").read_text().splitlines()
    cluster = f"kindinfra-{run.folder.name}"
    services = ("everywhere", "from-hook", "kinds", "tls", "widget")

    assert lines[0] == "services"
    assert sorted(line for line in lines if line.startswith("before_build")) == [
        "before_build tls",
        "before_build web",
    ]
    assert sorted(line for line in lines if line.startswith("before_deploy")) == [
        f"before_deploy {name} default" for name in services
    ]
    after = [line.split()[1] for line in lines if line.startswith("after_deploy")]
    assert sorted(after) == sorted(services)
    assert after.index("from-hook") < after.index("everywhere")
    assert any(line.startswith("after_deploy tls https://127.0.0.1:") for line in lines)
    assert lines[-1] == f"before_teardown {cluster} True"

"""A cluster without kind's network plugin, whose network is one of the services."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.e2e.runs import ROOT, left_behind, run_pytest

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "/kind/manifests/default-cni.yaml"
NODE_IMAGE = "kindest/node:v1.34.4"


def test_nodes_get_ready_by_a_service_that_comes_before_them(tmp_path: Path) -> None:
    folder = tmp_path / "own_network"
    shutil.copytree(ROOT / "tests" / "e2e" / "own_network", folder)
    argv = ["docker", "run", "--rm", "--entrypoint", "cat", NODE_IMAGE, MANIFEST]
    text = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout
    (folder / "cni.yaml").write_text(text.replace("{{ .PodSubnet }}", "10.244.0.0/16"))

    run = run_pytest(folder, "cases.py", f"--kindinfra-node-image={NODE_IMAGE}")

    assert run.exit_code == 0, run.output
    network, web = run.phase("deploy network"), run.phase("deploy web")
    assert network["start"] < web["start"]
    assert left_behind(folder) == []

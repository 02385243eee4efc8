"""A run whose engine has no room for a cluster is refused, before anything is built.

Where runs have a namespace of their own, the engine's folder is a file system of 2 MB.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.engines.docker import docker_root
from pytest_kindinfra.run.machine import disk_problem

if TYPE_CHECKING:
    from tests.functional.project import Project

SCRIPT = '{mount} -t tmpfs -o size=2m kindinfra-test "$0" && exec "$@"'


@pytest.fixture
def on_a_small_disk() -> tuple[str, ...]:
    """The words before a command that then sees an engine's folder of 2 MB."""
    unshare, mount, root = shutil.which("unshare"), shutil.which("mount"), "/var/lib/docker"
    if not unshare or not mount or not Path(root).is_dir():
        pytest.skip("unshare and mount of util-linux, or an engine's folder, are not here")
    script = SCRIPT.format(mount=mount)
    words = (unshare, "--map-root-user", "--mount", "/bin/sh", "-c", script, root)
    if subprocess.run([*words, "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    return words


def test_a_run_is_refused_with_what_is_free_and_what_is_needed(
    project: Project, on_a_small_disk: tuple[str, ...]
) -> None:
    project.service("api", image=True)
    project.tests("""
        @pytest.mark.kindinfra("api")
        def test_it(kindinfra): ...
    """)

    run = project.run(workers=2, within=on_a_small_disk)

    assert run.code == 4, run.text
    assert "the engine's disk (/var/lib/docker) has 0.0 GB free, and 1 kind node alone" in run.text
    assert run.all_calls == []


def test_this_machine_has_room_for_the_tests() -> None:
    assert disk_problem(docker_root(os.environ), nodes=1) is None

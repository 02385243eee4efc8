"""An artifacts folder on a network file system is refused, by a run that would lock in it.

Where runs have a namespace of their own, their table of mounts is one that we wrote.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.functional.project import Project

TESTS = """
def test_needy(kindinfra): ...

def test_free(): ...
"""
SCRIPT = 'table=$1; shift; {mount} --bind "$table" /proc/$$/mounts && exec "$@"'


@pytest.fixture
def on_nfs(project: Project, tmp_path: Path) -> tuple[str, ...]:
    """The words before a command that then sees the project's folder on NFS."""
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    if not unshare or not mount:
        pytest.skip("unshare and mount of util-linux are not here")
    table = tmp_path / "mounts"
    table.write_text(f"root / ext4 rw 0 0\nserver:/home {project.folder} nfs4 rw 0 0\n")
    script = SCRIPT.format(mount=mount)
    words = (unshare, "--map-root-user", "--mount", "/bin/sh", "-c", script, "sh", str(table))
    if subprocess.run([*words, "/bin/true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    return words


@pytest.mark.parametrize("workers", [None, 2])
def test_a_run_that_needs_something_is_refused(
    project: Project, on_nfs: tuple[str, ...], workers: int | None
) -> None:
    project.tests(TESTS)

    run = project.run("--kindinfra-artifacts=left", workers=workers, within=on_nfs)

    folder = project.folder / "left"
    assert run.code == 4, run.text
    assert f"{folder} is on a network file system (nfs4), where locks may not work" in run.text
    assert "to fix: --kindinfra-artifacts=DIR on a local disk" in run.text
    assert run.all_calls == []
    assert not list(folder.glob("2*"))


def test_a_run_that_needs_nothing_is_not(project: Project, on_nfs: tuple[str, ...]) -> None:
    project.tests(TESTS)

    run = project.run("--kindinfra-artifacts=left", "-k", "free", workers=None, within=on_nfs)

    assert (run.code, run.outcomes) == (0, {"passed": 1, "deselected": 1}), run.text


def test_another_folder_for_artifacts_is_enough(
    project: Project, on_nfs: tuple[str, ...], tmp_path: Path
) -> None:
    project.tests(TESTS)

    artifacts = f"--kindinfra-artifacts={tmp_path / 'local'}"
    run = project.run(artifacts, workers=None, within=on_nfs)

    assert (run.code, run.outcomes) == (0, {"passed": 2}), run.text

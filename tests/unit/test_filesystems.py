from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_kindinfra.run.machine import network_problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Have the system show a table of mounts: a function that gets its rows."""
    table = tmp_path / "proc" / "self" / "mounts"
    table.parent.mkdir(parents=True)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    return table.write_text


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("overlay", False)],
)
def test_only_folders_of_the_network_are_refused(
    tmp_path: Path, mount: Callable[[str], object], kind: str, *, refused: bool
) -> None:
    home = tmp_path / "with blank"
    written = str(home).replace(" ", r"\040")
    mount(f"root / ext4 rw 0 0\nserver:/home {written} {kind} rw 0 0\n")

    problem = network_problem(home / "project" / ".kindinfra")

    assert (problem is not None) is refused
    assert problem is None or (kind in problem and "to fix" in problem)


def test_the_nearest_mount_counts(tmp_path: Path, mount: Callable[[str], object]) -> None:
    mount(f"server:/ {tmp_path} nfs rw 0 0\nlocal {tmp_path}/a ext4 rw 0 0\n")

    assert network_problem(tmp_path / "a" / "b") is None


@pytest.mark.usefixtures("mount")
def test_where_there_is_no_table_nobody_is_refused(tmp_path: Path) -> None:
    assert network_problem(tmp_path) is None

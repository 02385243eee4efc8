from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.run.machine import network_problem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("overlay", False)],
)
def test_only_folders_of_the_network_are_refused(
    tmp_path: Path, kind: str, *, refused: bool
) -> None:
    home = tmp_path / "with blank"
    mounts = tmp_path / "mounts"
    written = str(home).replace(" ", r"\040")
    mounts.write_text(f"root / ext4 rw 0 0\nserver:/home {written} {kind} rw 0 0\n")

    problem = network_problem(home / "project" / ".kindinfra", mounts=mounts)

    assert (problem is not None) is refused
    assert problem is None or (kind in problem and "to fix" in problem)


def test_the_nearest_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/ {tmp_path} nfs rw 0 0\nlocal {tmp_path}/a ext4 rw 0 0\n")

    assert network_problem(tmp_path / "a" / "b", mounts=mounts) is None


def test_where_there_is_no_table_nobody_is_refused(tmp_path: Path) -> None:
    assert network_problem(tmp_path, mounts=tmp_path / "none") is None

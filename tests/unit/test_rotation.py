"""Old run directories go; what is in use, or is none of ours, stays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.state.clusterrecords import ClusterKept, ClusterNamed, ReusedCluster
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import ClusterReady
from pytest_kindinfra.state.rotation import rotate

if TYPE_CHECKING:
    from pathlib import Path


def run_in(artifacts: Path, number: int, *, kept: bool | None = False) -> RunDirectory:
    """Make the directory of a run that is over; with `kept` None it was killed."""
    run = RunDirectory(artifacts / f"20260101-0000{number:02}-abcdef")
    run.make()
    hold(run.lock).release()
    run.write(ClusterNamed(name="x"))
    if kept is not None:
        report: dict[str, Any] = {"outcome": {"state": "passed", "kept": kept}}
        (run.path / "run.json").write_text(json.dumps(report))
    if kept:
        run.write(ClusterKept(cluster="x"))
    return run


def names(artifacts: Path) -> list[int]:
    return sorted(int(path.name[13:15]) for path in artifacts.glob("2026*"))


def test_the_oldest_go_until_so_many_are_left(tmp_path: Path) -> None:
    runs = [run_in(tmp_path, number) for number in range(5)]

    removed = rotate(tmp_path, keep=2)

    assert names(tmp_path) == [3, 4]
    assert sorted(removed) == [run.path for run in runs[:3]]
    assert (tmp_path / "latest").resolve() == runs[4].path


def test_one_that_is_in_use_stays(tmp_path: Path) -> None:
    runs = [run_in(tmp_path, number) for number in range(3)]
    lock = hold(runs[0].lock)

    rotate(tmp_path, keep=1)
    lock.release()

    assert names(tmp_path) == [0, 2]


@pytest.mark.parametrize("kept", [True, None], ids=["kept", "killed"])
def test_one_by_which_a_cluster_is_found_stays(tmp_path: Path, kept: bool | None) -> None:  # noqa: FBT001
    run_in(tmp_path, 0, kept=kept)
    run_in(tmp_path, 1)

    rotate(tmp_path, keep=1)

    assert names(tmp_path) == [0, 1]


def test_one_whose_cluster_has_a_folder_of_its_own_goes(tmp_path: Path) -> None:
    reused = run_in(tmp_path, 0, kept=True)
    reused.write(ReusedCluster(path=tmp_path / "reused" / "x", existed=True))
    run_in(tmp_path, 1, kept=True)
    run_in(tmp_path, 2)

    rotate(tmp_path, keep=1)

    assert names(tmp_path) == [1, 2]


def test_a_kept_cluster_whose_artifacts_are_opened_through_a_link_keeps_its_kubeconfig(
    tmp_path: Path,
) -> None:
    artifacts, link = tmp_path / "artifacts", tmp_path / "link"
    kept = run_in(artifacts, 0, kept=True)
    kept.settle(ClusterReady(name="x", kubeconfig=kept.kubeconfig, namespace="default"))
    run_in(artifacts, 1)
    link.symlink_to(artifacts)

    assert rotate(link, keep=1) == []
    assert names(artifacts) == [0, 1]


def test_one_that_made_no_cluster_goes_without_a_report(tmp_path: Path) -> None:
    run_in(tmp_path, 0, kept=None).file(ClusterNamed).unlink()
    run_in(tmp_path, 1)

    rotate(tmp_path, keep=1)

    assert names(tmp_path) == [1]


def test_what_is_no_run_directory_of_ours_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    run = run_in(outside, 0)
    artifacts = tmp_path / "artifacts"
    run_in(artifacts, 8)
    (artifacts / "20260101-000001-abcdef").mkdir()  # without a lock
    (artifacts / "20260101-000002-abcdef").symlink_to(run.path)
    (artifacts / "20260101-000003-abcdef").write_text("a file")
    (artifacts / "reused").mkdir()
    (artifacts / "notes").mkdir()

    assert rotate(artifacts, keep=1) == []
    assert names(artifacts) == [1, 2, 3, 8]
    assert run.path.exists()


def test_damaged_notes_are_no_proof(tmp_path: Path) -> None:
    damaged = run_in(tmp_path, 0)
    damaged.file(ClusterKept).write_text("{")
    half = run_in(tmp_path, 1)
    (half.path / "run.json").write_text('{"outcome": {}}')
    run_in(tmp_path, 2)

    rotate(tmp_path, keep=1)

    assert names(tmp_path) == [0, 1, 2]


def test_what_a_killed_rotation_left_goes(tmp_path: Path) -> None:
    run_in(tmp_path, 0).path.rename(tmp_path / ".old-20260101-000000-abcdef")

    rotate(tmp_path, keep=1)

    assert not (tmp_path / ".old-20260101-000000-abcdef").exists()


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert rotate(tmp_path / "none", keep=1) == []

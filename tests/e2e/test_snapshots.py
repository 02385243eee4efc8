"""Clusters that boot from the snapshot that an earlier run left."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import background_pytest, kindinfra, left_behind, run_of, run_pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CASES = ("cases.py", "-k", "web or redis")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have snapshots of a key that only this test has; remove them."""
    monkeypatch.setenv("KINDINFRA_SNAPSHOT", "auto")
    monkeypatch.setenv("KIND_KINDINFRA_TEST", uuid.uuid4().hex)
    before = references()
    yield
    for reference in references() - before:
        subprocess.run(["docker", "image", "rm", "-f", reference], check=False, capture_output=True)


def references() -> set[str]:
    found = json.loads(kindinfra("snapshot", "list", "--json"))["snapshots"]
    return {one["reference"] for one in found}


def kinds(report: dict[str, object]) -> set[str]:
    phases = report["phases"]
    assert isinstance(phases, list)
    return {phase["kind"] for phase in phases}


@pytest.mark.usefixtures("alone")
def test_later_runs_restore_what_the_first_one_left(small: Path, tmp_path: Path) -> None:
    before = references()
    first = run_pytest(small, *CASES)
    (made,) = references() - before

    assert (first.exit_code, first.report["snapshot"]) == (0, None), first.output
    assert {"create", "snapshot"} <= kinds(first.report)

    other = tmp_path / "other"
    shutil.copytree(small, other, ignore=shutil.ignore_patterns(".kindinfra"))
    beside = background_pytest(other, *CASES)
    second = run_pytest(small, *CASES)
    output, _ = beside.communicate()
    third = run_of(other, beside.returncode, output)

    for run in (second, third):
        assert run.exit_code == 0, run.output
        assert run.report["snapshot"]["reference"] == made
        assert "restore" in kinds(run.report)
        assert "create" not in kinds(run.report)
        assert "cluster restored from a snapshot" in run.output
    assert references() - before == {made}
    assert left_behind(small) == left_behind(other) == []


@pytest.mark.usefixtures("alone")
def test_a_broken_snapshot_is_replaced_and_the_tests_pass(small: Path, tmp_path: Path) -> None:
    before = references()
    assert run_pytest(small, *CASES).exit_code == 0
    (made,) = references() - before
    (tmp_path / "Dockerfile").write_text(f'FROM {made}\nENTRYPOINT ["/bin/false"]\n')
    subprocess.run(["docker", "build", "-q", "-t", made, tmp_path], check=True, capture_output=True)

    run = run_pytest(small, *CASES)

    assert run.exit_code == 0, run.output
    assert run.report["snapshot"] is None
    assert f"could not be restored from the snapshot {made}, and is booted" in run.output
    assert {"create", "snapshot"} <= kinds(run.report)
    kindinfra("gc")  # the one whose name the broken one took
    assert references() - before == {made}
    assert left_behind(small) == []

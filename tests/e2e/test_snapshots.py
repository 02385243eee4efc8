"""Clusters that boot from the snapshot that an earlier run left."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.e2e.runs import (
    ROOT,
    background_pytest,
    kindinfra,
    left_behind,
    registry,
    run_of,
    run_printed,
    run_pytest,
)

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


SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OF_SNAPSHOTS = re.compile(r"(docker load --input=snapshot.*|kindinfra snapshot .*)$", re.MULTILINE)


def printed(script: str, folder: Path, snapshot: str) -> str:
    done = run_printed(f"set -ex\nSNAPSHOT={snapshot}\n{script}", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("alone")
def test_a_snapshot_goes_to_another_machine_as_the_pages_say(small: Path) -> None:
    make, use = SHELL.findall((ROOT / "docs/how-to/snapshots.md").read_text("utf-8"))
    load, pull_and_test = use.split("\n", 1)
    (small / "pytest.ini").write_text("[pytest]\npython_files = cases.py\naddopts = -k web\n")
    before = references()

    with registry() as address:
        remote = f"{address}/ci/snapshot:shop"
        said = printed(make, small, remote)
        (made,) = references() - before
        subprocess.run(["docker", "image", "rm", made], check=True, capture_output=True)
        assert references() == before  # no name in a registry keeps it

        printed(f"{load}\ndocker image rm {made}", small, remote)  # fails if it was not loaded
        printed(pull_and_test, small, remote)

    run = run_of(small, 0, "")
    assert f"warning: all users who can read {remote} get the keys" in said
    assert run.report["snapshot"]["reference"] == made
    assert "restore" in kinds(run.report)
    assert not kinds(run.report) & {"create", "load", "pull"}
    assert left_behind(small) == []


def test_the_recipes_for_ci_have_the_lines_that_were_run() -> None:
    page = (ROOT / "docs/how-to/snapshots.md").read_text("utf-8")
    tried = {line.partition("  #")[0] for text in SHELL.findall(page) for line in text.splitlines()}
    tried |= {line.partition(" --save")[0] for line in tried}

    for recipe in ("docs/ci/github.md", "docs/ci/gitlab.md"):
        lines = OF_SNAPSHOTS.findall((ROOT / recipe).read_text("utf-8"))
        assert len(lines) > 1
        assert {line.removesuffix(" || true") for line in lines} <= tried

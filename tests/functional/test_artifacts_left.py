"""What a run leaves for machines to read, and what a second one finds done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

TESTS = "@pytest.mark.kindinfra('api', 'seeds')\ndef test_api(): ...\n"
SEEDS = """
def plant(stack):
    assert stack.url("api").startswith("http://127.0.0.1:")
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seeds"}}
"""


def shop(project: Project) -> None:
    project.service("db")
    project.service("api", image=True, needs=("db",))
    project.declare("[services.seeds]\nrun = 'seeds:plant'\nneeds = ['api']\n")
    project.write("seeds.py", SEEDS)
    project.host_image("quay.io/db:1")
    project.tests(TESTS)


def first(project: Project) -> Run:
    shop(project)
    run = project.run(workers=2)
    return keep_files(run)


def second(project: Project) -> Run:
    """With the same images in the engine, and one of them in the kind node as well."""
    shop(project)
    project.run(workers=None)
    project.behave("create", images=["quay.io/db:1"])
    return project.run(workers=None)


def keep_files(run: Run) -> Run:
    assert run.code == 0, run.text
    return run


@pytest.fixture
def left(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(first)


@pytest.fixture
def again(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(second)


def test_the_report_has_its_keys(left: Run) -> None:
    assert set(left.report) == {
        "plan", "phases", "images", "endpoints", "outcome", "memory", "git", "versions",
        "machine", "snapshot",
    }  # fmt: skip


def test_the_plan_stands_in_the_order_of_needs(left: Run) -> None:
    services = left.report["plan"]["services"]

    assert [(one["name"], one["needs"], one["images"]) for one in services] == [
        ("db", {}, []),
        ("api", {"db": "ready"}, ["api"]),
        ("seeds", {"api": "ready"}, []),
    ]
    assert left.report["plan"]["images"] == ["api"]


def test_each_phase_has_its_name_and_lies_within_the_run(left: Run) -> None:
    phases = left.report["phases"]

    assert {phase["name"] for phase in phases} == {
        "create cluster", "wait cluster", "delete cluster", "build api", "load api",
        "load quay.io/db:1", "deploy db", "wait db", "deploy api", "wait api", "run seeds",
        "deploy seeds", "wait seeds",
    }  # fmt: skip
    for phase in phases:
        assert phase["name"] == f"{phase['kind']} {phase['subject']}"
        assert left.all_calls[0].start - 60 < phase["start"] <= phase["end"]
        assert phase["ok"] is True
    build = next(phase for phase in phases if phase["kind"] == "build")
    call = left.call("build api")
    assert build["start"] <= call.start <= (call.end or 0) <= build["end"]


def test_images_and_endpoints_are_listed(left: Run) -> None:
    report = left.report

    assert set(report["images"]) == {"api"}
    argv = left.call("build api").argv
    provisional = argv[argv.index("--tag") + 1]  # named by its content after a second look
    assert provisional.rpartition("-")[0] in report["images"]["api"]["contexts"]
    assert report["images"]["api"]["cached"] is False
    assert {name: list(ports) for name, ports in report["endpoints"].items()} == {
        "db": ["http"], "api": ["http"], "seeds": []
    }  # fmt: skip
    assert report["endpoints"]["api"]["http"].startswith("http://127.0.0.1:")


def test_the_outcome_is_said(left: Run) -> None:
    assert left.report["outcome"] == {"state": "passed", "failures": {}, "kept": False}


def test_versions_are_those_that_the_run_had(left: Run) -> None:
    versions = left.report["versions"]

    assert versions["engine"] == "docker 28.0.0"
    assert versions["kubernetes"] == "v1.34.4"
    assert versions["kind"]
    assert left.report["machine"]["cpus"]


def test_older_folders_go_and_latest_stays_the_newest(project: Project) -> None:
    shop(project)
    runs = [project.run("--kindinfra-keep-runs=2", workers=None) for _ in range(3)]

    there = {path.name for path in Path(runs[-1].folder).parent.glob("20*")}
    assert there == {Path(run.folder).name for run in runs[1:]}


def test_the_trace_is_in_chromes_format(left: Run) -> None:
    trace = json.loads((Path(left.folder) / "trace.json").read_text())

    events = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert {event["name"] for event in events} == {p["name"] for p in left.report["phases"]}
    for event in events:
        assert event["dur"] >= 0
        assert {"ts", "pid", "tid", "cat"} <= set(event)


def test_git_does_not_see_the_artifacts(left: Run) -> None:
    assert (Path(left.folder).parent / ".gitignore").read_text() == "*\n"


def test_what_is_unchanged_is_neither_built_nor_loaded_again(again: Run) -> None:
    assert again.code == 0, again.text
    assert again.built == []
    assert not [phase for phase in again.report["phases"] if phase["kind"] == "build"]
    assert again.report["images"]["api"]["cached"] is True
    saved = {reference for call in again.calls("save") for reference in call.argv[2:]}
    assert saved == {again.report["images"]["api"]["reference"]}


def test_a_changed_file_is_built_and_an_ignored_one_is_not(project: Project) -> None:
    project.service("api", image=True)
    project.service("web", image=True)
    project.write("web/.dockerignore", "notes.md\n")
    project.tests("@pytest.mark.kindinfra('api', 'web')\ndef test_it(): ...\n")

    before = project.run(workers=None)
    project.write("api/main.py", "print()\n")
    project.write("web/notes.md", "nothing\n")
    after = project.run(workers=None)

    assert (before.built, after.built) == (["api", "web"], ["api"])

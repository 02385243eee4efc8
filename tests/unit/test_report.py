"""What a run leaves for machines: the keys are a contract."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_kindinfra.model import (
    BuiltImage,
    Declaration,
    Endpoint,
    Image,
    Need,
    Phase,
    Plan,
    Service,
)
from pytest_kindinfra.run.report import Outcome, run_report, trace
from pytest_kindinfra.state.records import CacheUsed, GitState
from pytest_kindinfra.state.results import Failed

PHASES = (
    Phase(kind="build", subject="api", start=100.0, end=102.5),
    Phase(kind="create", subject="cluster", start=100.25, end=110.0),
    Phase(kind="load", subject="api", start=103.0, end=104.0, ok=False),
    Phase(kind="load", subject="db", start=104.0, end=105.0, note="3 of 263 MB", sent=3_000_000),
)

PLAN = Plan(
    declaration=Declaration(folder=Path()),
    services=(
        Service(name="db"),
        Service(name="api", images=("api",), needs=(Need(name="db", level="started"),)),
    ),
    images=(Image(name="api"),),
)


def test_the_report_says_what_was_planned_done_and_left() -> None:
    endpoint = Endpoint(service="api", name="web", scheme="http", host="127.0.0.1", port=4001)

    report = run_report(
        PLAN,
        cluster="kindinfra-1",
        phases=PHASES,
        images={"api": BuiltImage(name="api", reference="localhost/api:1f", cached=False)},
        endpoints={"db": (), "api": (endpoint,)},
        outcome=Outcome(
            state="failed",
            kept=False,
            failures={
                "db": Failed(short="no disk", full="no disk at all", root='service "db"'),
                "web": Failed(short="ending", full="ending", root="", cancelled=True),
            },
        ),
        cache=CacheUsed(folder=Path("cache"), problems=("full",)),
        git=GitState(commit="1f", dirty=True),
        versions={"kind": "v0.31.0"},
        machine={"cpus": 2},
    )

    assert report == {
        "plan": {
            "cluster": "kindinfra-1",
            "images": ["api"],
            "image_needs": {"api": []},
            "services": [
                {"name": "db", "needs": {}, "images": []},
                {"name": "api", "needs": {"db": "started"}, "images": ["api"]},
            ],
        },
        "phases": [
            {
                "name": "build api",
                "kind": "build",
                "subject": "api",
                "start": 100.0,
                "end": 102.5,
                "ok": True,
            },
            {
                "name": "create cluster",
                "kind": "create",
                "subject": "cluster",
                "start": 100.25,
                "end": 110.0,
                "ok": True,
            },
            {
                "name": "load api",
                "kind": "load",
                "subject": "api",
                "start": 103.0,
                "end": 104.0,
                "ok": False,
            },
            {
                "name": "load db",
                "kind": "load",
                "subject": "db",
                "start": 104.0,
                "end": 105.0,
                "ok": True,
                "bytes": 3_000_000,
            },
        ],
        "images": {
            "api": {
                "name": "api",
                "reference": "localhost/api:1f",
                "cached": False,
                "bases": {},
                "also": [],
                "contexts": [],
                "pushed": "",
            }
        },
        "endpoints": {"db": {}, "api": {"web": "http://127.0.0.1:4001"}},
        "outcome": {"state": "failed", "failures": {"db": "no disk"}, "kept": False},
        "memory": {"folder": "cache", "problems": ["full"]},
        "git": {"commit": "1f", "dirty": True},
        "versions": {"kind": "v0.31.0"},
        "machine": {"cpus": 2},
    }
    assert json.loads(json.dumps(report)) == report


def test_a_trace_has_a_row_for_each_subject() -> None:
    events = trace(PHASES)["traceEvents"]

    rows = {event["args"]["name"]: event["tid"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    assert rows == {"api": 0, "cluster": 1, "db": 2}
    assert [(span["name"], span["tid"]) for span in spans] == [
        ("build api", 0),
        ("create cluster", 1),
        ("load api", 0),
        ("load db", 2),
    ]


def test_a_trace_counts_in_microseconds() -> None:
    span = next(event for event in trace(PHASES)["traceEvents"] if event["ph"] == "X")

    assert (span["ts"], span["dur"], span["cat"]) == (100_000_000.0, 2_500_000.0, "build")


def test_a_run_that_did_nothing_leaves_an_empty_trace() -> None:
    assert trace([]) == {"traceEvents": []}

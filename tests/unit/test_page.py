"""What is on the timeline page: rows, bars, causes and logs, as data in the page."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.run.page import timeline_page, write_timeline

if TYPE_CHECKING:
    from pathlib import Path


def phase(kind: str, subject: str, start: float, end: float, *, ok: bool = True) -> dict[str, Any]:
    return {
        "name": f"{kind} {subject}", "kind": kind, "subject": subject,
        "start": 1000 + start, "end": 1000 + end, "ok": ok,
    }  # fmt: skip


REPORT: dict[str, Any] = {
    "plan": {
        "services": [
            {"name": "db", "needs": {}, "images": []},
            {"name": "api", "needs": {"db": "ready"}, "images": ["api"]},
        ],
        "images": ["api"],
    },
    "phases": [
        phase("build", "api", 0, 5, ok=False),
        phase("create", "cluster", 0, 20),
        phase("wait", "db", 20, 24),
    ],
    "images": {"api": {}},
    "outcome": {"state": "failed", "failures": {"image api": "no </script> here"}},
}

TESTS = [
    {"test": "t.py::test_a", "worker": "gw1", "outcome": "passed",
     "start": 1001.0, "setup_end": 1024.0, "end": 1025.0},
    {"test": "t.py::test_b", "worker": "gw0", "outcome": "failed", "cause": "assert 0",
     "start": 1002.0, "setup_end": 1002.0, "end": 1003.0},
]  # fmt: skip


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "api.log").touch()
    (tmp_path / "run.json").touch()
    return data_of(timeline_page(REPORT, TESTS, folder=tmp_path))


def test_a_row_for_the_cluster_each_image_each_service_and_each_worker(
    data: dict[str, Any],
) -> None:
    assert [(row["group"], row["name"], row["needs"]) for row in data["rows"]] == [
        ("cluster", "cluster", []),
        ("images and services", "api", ["db"]),
        ("images and services", "db", []),
        ("tests", "gw0", []),
        ("tests", "gw1", []),
    ]


def test_a_bar_has_its_place_cause_and_logs(data: dict[str, Any]) -> None:
    (bar,) = data["rows"][1]["bars"]

    assert bar == {
        "kind": "build",
        "label": "build",
        "title": "build api",
        "start": 0.0,
        "end": 5.0,
        "failed": True,
        "critical": False,
        "cause": "no </script> here",
        "logs": ["build/api.log"],
    }


def test_the_logs_of_a_wait_are_those_of_its_service_only(tmp_path: Path) -> None:
    """The row of "db" linked the log of a pod of "db-admin" too."""
    pods = tmp_path / "pods"
    pods.mkdir()
    for service in ("db", "db-admin"):
        record = {"metadata": {"labels": {"dev.kindinfra/service": service}}}
        for name, text in (
            (f"{service}-1.json", json.dumps(record)),
            (f"{service}-1.main.log", ""),
        ):
            (pods / f"default.{name}").write_text(text)

    rows = data_of(timeline_page(REPORT, TESTS, folder=tmp_path))["rows"]

    assert rows[2]["bars"][0]["logs"] == ["pods/default.db-1.main.log"]


def test_the_critical_path_is_marked(data: dict[str, Any]) -> None:
    bars = [bar for row in data["rows"] for bar in row["bars"] if bar.get("critical")]

    assert [bar["title"] for bar in bars] == ["create cluster", "wait db"]


def test_the_wait_of_a_test_is_apart_from_the_rest(data: dict[str, Any]) -> None:
    waited, ran = data["rows"][4]["bars"]

    assert (waited["setup"], waited["start"], waited["end"]) == (True, 1.0, 24.0)
    assert (ran["setup"], ran["start"], ran["end"]) == (False, 24.0, 25.0)
    assert data["rows"][3]["bars"][0]["cause"] == "assert 0"


def test_head_and_files(data: dict[str, Any]) -> None:
    assert data["failed"] is True
    assert data["about"].startswith("2 services, 1 image, 2 tests. total: 24.0 s; critical path: ")
    assert data["files"] == ["run.json", "build"]


def test_it_needs_no_network_and_is_for_its_owner_only(tmp_path: Path) -> None:
    write_timeline(tmp_path, REPORT, TESTS)

    page = tmp_path / "timeline.html"
    assert page.stat().st_mode & 0o777 == 0o600
    assert re.findall(r"https?://", page.read_text()) == []
    assert "default-src 'none'" in page.read_text()


def test_a_run_that_did_nothing_has_a_page(tmp_path: Path) -> None:
    report = {**REPORT, "phases": []}

    assert data_of(timeline_page(report, [], folder=tmp_path))["rows"] == []

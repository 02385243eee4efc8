"""Whose copies of services each xdist worker has, and what it has under a declared name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_kindinfra.session.neighbours import start_no_workers
from pytest_kindinfra.session.workers import Workers
from pytest_kindinfra.state.records import PlanMade


def test_workers_have_copies_in_the_order_of_their_start() -> None:
    workers = Workers()

    assert [workers.begin(name) for name in ("gw0", "gw1", "other")] == ["gw0", "gw1", "gw2"]
    assert workers.names == ("gw0", "gw1", "gw2")


def test_a_replacement_has_the_copies_of_the_worker_that_ended() -> None:
    workers = Workers()
    for name in ("gw0", "gw1"):
        workers.begin(name)
    workers.end("gw0")
    workers.end("gw0")

    assert workers.begin("gw2") == "gw0"
    assert workers.begin("gw3") == "gw2"
    assert workers.names == ("gw0", "gw1", "gw2")


@pytest.mark.parametrize(
    ("dist", "tx", "workers"),
    [("load", ["popen"] * 4, 4), ("load", ["3*popen", "popen"], 4), ("no", ["popen"], 0)],
)
def test_a_plan_is_for_the_workers_that_xdist_would_start(
    dist: str, tx: list[str], workers: int
) -> None:
    option = SimpleNamespace(dist=dist, tx=tx, numprocesses=None)
    config = cast("Any", SimpleNamespace(option=option))

    assert start_no_workers(config) == workers
    assert (option.dist, option.tx, option.numprocesses) == ("no", [], 0)


def test_without_xdist_no_worker_is_planned() -> None:
    assert start_no_workers(cast("Any", SimpleNamespace(option=SimpleNamespace()))) == 0


def test_a_declared_name_means_the_workers_copy_or_the_shared_service() -> None:
    plan = PlanMade(services=("api", "db.gw0", "db.gw1"))

    assert [plan.own(name, "gw1") for name in ("api", "db", "db.gw0")] == [
        "api",
        "db.gw1",
        "db.gw0",
    ]
    assert plan.own("db", "") == "db"

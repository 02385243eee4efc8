"""Variables get into the environment once what they tell of is ready."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.model import Endpoint
from pytest_kindinfra.session.fixtures import Exports
from pytest_kindinfra.state.records import ClusterReady, PlanMade, ServiceReady
from pytest_kindinfra.state.results import Failed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.state.directory import RunDirectory

ENDPOINTS = tuple(
    Endpoint(service="api", name=name, scheme="http", host="127.0.0.1", port=port)
    for name, port in (("web", 20001), ("metrics", 20002))
)
ENV = {
    "T_URL": "{url:api}/v1",
    "T_BOTH": "{host:api}:{port:api:metrics}",
    "T_WHERE": "{cluster}/{namespace}",
    "T_OTHER": "{url:other}",
    "T_FIXED": "as it is",
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ENV:
        monkeypatch.setenv(name, "theirs")
    yield
    monkeypatch.undo()


def env() -> dict[str, str]:
    return {name: os.environ[name] for name in ENV if os.environ[name] != "theirs"}


def test_each_is_set_as_soon_as_all_in_it_is_ready_and_the_rest_left_alone(
    run: RunDirectory,
) -> None:
    run.make()
    run.settle(PlanMade(services=("api",), env=ENV))
    exports = Exports(run)

    exports.set_those_that_are_ready()
    at_first = env()
    run.settle(ClusterReady(name="kind", kubeconfig=Path("k"), namespace="shop"))
    exports.set_those_that_are_ready()
    with_cluster = env()
    run.settle(ServiceReady(endpoints=ENDPOINTS), "api")
    exports.set_those_that_are_ready()

    assert at_first == {"T_FIXED": "as it is"}
    assert with_cluster == {**at_first, "T_WHERE": "kind/shop"}
    assert env() == {
        **with_cluster,
        "T_URL": "http://127.0.0.1:20001/v1",
        "T_BOTH": "127.0.0.1:20002",
    }


def test_one_of_a_failed_service_stays_as_it_was(run: RunDirectory) -> None:
    run.make()
    run.settle(PlanMade(services=("api",), env={"T_URL": "{url:api}"}))
    run.fail(ServiceReady, Failed(short="no", full="no", root="api"), "api")

    Exports(run).set_those_that_are_ready()

    assert env() == {}


def test_each_gets_its_old_value_back_unless_it_was_changed_meanwhile(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.make()
    env = {"T_WAS": "ours", "T_NEW": "ours", "T_CHANGED": "ours"}
    run.settle(PlanMade(services=(), env=env))
    monkeypatch.setenv("T_WAS", "before")
    monkeypatch.delenv("T_NEW", raising=False)
    monkeypatch.setenv("T_CHANGED", "before")
    exports = Exports(run)

    exports.set_those_that_are_ready()
    set_by_it = {name: os.environ[name] for name in env}
    os.environ["T_CHANGED"] = "by a test"
    exports.restore()

    assert set_by_it == env
    assert os.environ["T_WAS"] == "before"
    assert "T_NEW" not in os.environ
    assert os.environ["T_CHANGED"] == "by a test"

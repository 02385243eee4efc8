"""The parts that all services share."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from kubernaut_kit.metrics import Counters
from kubernaut_kit.settings import Settings, SettingsError
from kubernaut_kit.web import Answer, JsonServer, Refusal, Request, Route


def _show(request: Request) -> Answer:
    return Answer({"name": request.values["name"], "query": dict(request.query)})


def _refuse(_request: Request) -> Answer:
    raise Refusal(HTTPStatus.CONFLICT, "one", "two")


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/things/a-1", 200, {"name": "a-1", "query": {"q": "1"}}),
        ("POST", "/things/a-1", 409, {"problems": ["one", "two"]}),
        ("PUT", "/things/a-1", 405, {"problems": ["/things/a-1 does not take PUT"]}),
        ("GET", "/things/a/b", 404, {"problems": ["nothing at /things/a/b"]}),
    ],
)
def test_a_server_answers_by_its_routes(
    method: str, path: str, status: int, body: dict[str, object]
) -> None:
    routes = [Route("GET", "/things/{name}", _show), Route("POST", "/things/{name}", _refuse)]
    with JsonServer(0, routes) as server:
        answer = server.answer(method, path, {"q": "1"}, None)

    assert (answer.status, answer.body) == (status, body)


def test_counters_are_shown_as_prometheus_reads_them() -> None:
    counters = Counters({"a_total": "As.", "b_total": "Bs."})
    counters.add("b_total", 2, kind='"odd"')
    counters.add("b_total", kind='"odd"')

    assert counters.render() == (
        "# HELP a_total As.\n# TYPE a_total counter\na_total 0\n"
        '# HELP b_total Bs.\n# TYPE b_total counter\nb_total{kind="\\"odd\\""} 3\n'
    )


def test_a_setting_is_found_by_its_dotted_name() -> None:
    settings = Settings({"database": {"host": "postgresql", "patience": 10}})

    assert settings.get("database.host", str) == "postgresql"
    assert settings.get("database.patience", float) == 10.0


@pytest.mark.parametrize("name", ["database.port", "database.name.first", "nothing"])
def test_a_setting_that_is_not_right_is_named(name: str) -> None:
    settings = Settings({"database": {"port": True, "name": "x"}}, "config.yaml")

    with pytest.raises(SettingsError, match=f"config.yaml: {name} must be int, not"):
        settings.get(name, int)

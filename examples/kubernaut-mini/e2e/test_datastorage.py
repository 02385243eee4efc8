"""DataStorage by itself: neither the language model nor the controller is needed here."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from pytest_kindinfra import Http, Stack

pytestmark = pytest.mark.kindinfra("datastorage")


def event(correlation_id: str, event_type: str = "test.happened") -> dict[str, Any]:
    return {"correlation_id": correlation_id, "event_type": event_type, "actor": "a test"}


def trail(datastorage: httpx.Client, correlation_id: str, **query: str) -> list[dict[str, Any]]:
    params = {"correlation_id": correlation_id, **query}
    answer = datastorage.get("/api/v1/audit/events", params=params)
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def test_an_event_is_found_again(kindinfra_http: Http, correlation_id: str) -> None:
    datastorage = kindinfra_http("datastorage")
    payload = {"answer": 42, "words": ["for", "tea"]}

    receipt = datastorage.post(
        "/api/v1/audit/events", json=event(correlation_id) | {"payload": payload}
    )

    assert receipt.status_code == 201
    [found] = trail(datastorage, correlation_id)
    assert found["event_id"] == receipt.json()["event_id"]
    assert found["payload"] == payload


def test_a_batch_keeps_its_order(kindinfra_http: Http, correlation_id: str) -> None:
    datastorage = kindinfra_http("datastorage")
    types = [f"step.{number}" for number in range(20)]

    events = [event(correlation_id, name) for name in types]
    receipt = datastorage.post("/api/v1/audit/events/batch", json=events)

    assert receipt.status_code == 201
    assert [found["event_type"] for found in trail(datastorage, correlation_id)] == types


def test_a_long_trail_comes_in_pages(kindinfra_http: Http, correlation_id: str) -> None:
    datastorage = kindinfra_http("datastorage")
    datastorage.post("/api/v1/audit/events/batch", json=[event(correlation_id)] * 5)

    first = trail(datastorage, correlation_id, limit="3")
    rest = trail(datastorage, correlation_id, limit="3", after=str(first[-1]["position"]))

    assert (len(first), len(rest)) == (3, 2)


def test_the_same_event_is_kept_once(kindinfra_http: Http, correlation_id: str) -> None:
    """A writer that got no answer writes again; the trail must not show it."""
    datastorage = kindinfra_http("datastorage")
    sent = event(correlation_id) | {"event_id": str(uuid.uuid4())}

    answers = [datastorage.post("/api/v1/audit/events", json=sent) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert len(trail(datastorage, correlation_id)) == 1


def test_all_that_is_wrong_with_an_event_is_said(kindinfra_http: Http, correlation_id: str) -> None:
    datastorage = kindinfra_http("datastorage")

    answer = datastorage.post("/api/v1/audit/events", json={"correlation_id": correlation_id})

    assert answer.status_code == 400
    assert answer.json()["problems"] == [
        "event_type must be a text that is not empty",
        "actor must be a text that is not empty",
    ]
    assert trail(datastorage, correlation_id) == []


def test_a_workflow_has_one_id_however_often_it_is_registered(
    kindinfra_http: Http, correlation_id: str
) -> None:
    datastorage, workflows = kindinfra_http("datastorage"), "/api/v1/workflows"
    workflow = {
        "name": correlation_id,
        "version": "1.0.0",
        "signal": f"signal of {correlation_id}",
        "description": "does nothing",
    }

    first, second = (datastorage.post(workflows, json=workflow) for _ in range(2))

    assert (first.status_code, second.status_code) == (201, 200)
    made = first.json()
    assert second.json() == made
    assert datastorage.get(f"{workflows}/{made['workflow_id']}").json() == made
    found = datastorage.get(workflows, params={"signal": workflow["signal"]})
    assert found.json() == {"workflows": [made]}


@pytest.mark.kindinfra("redis")
def test_a_dead_letter_comes_home(
    kindinfra: Stack, kindinfra_http: Http, correlation_id: str
) -> None:
    """What waits in Redis since PostgreSQL was away is brought into it."""
    letter = json.dumps(event(correlation_id))
    command = ["redis-cli", "RPUSH", "audit:deadletters", letter]
    kindinfra.exec("redis", command, check=True)

    def stored() -> None:
        found = trail(kindinfra_http("datastorage"), correlation_id)
        assert [one["event_type"] for one in found] == ["test.happened"]

    kindinfra.eventually(stored, timeout=10)

"""DataStorage by itself: neither the language model nor the controller is needed here."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import wire

if TYPE_CHECKING:
    from pytest_kindinfra import Stack

pytestmark = pytest.mark.kindinfra("datastorage")


def event(correlation_id: str, event_type: str = "test.happened") -> dict[str, Any]:
    return {"correlation_id": correlation_id, "event_type": event_type, "actor": "a test"}


def trail(datastorage: str, correlation_id: str, **query: str) -> list[dict[str, Any]]:
    answer = wire.get(f"{datastorage}/api/v1/audit/events", correlation_id=correlation_id, **query)
    events: list[dict[str, Any]] = answer.json["events"]
    return events


def test_an_event_is_found_again(kindinfra: Stack, correlation_id: str) -> None:
    datastorage = kindinfra.url("datastorage")
    payload = {"answer": 42, "words": ["for", "tea"]}

    receipt = wire.post(
        f"{datastorage}/api/v1/audit/events", event(correlation_id) | {"payload": payload}
    )

    assert receipt.status == 201
    [found] = trail(datastorage, correlation_id)
    assert found["event_id"] == receipt.json["event_id"]
    assert found["payload"] == payload


def test_a_batch_keeps_its_order(kindinfra: Stack, correlation_id: str) -> None:
    datastorage = kindinfra.url("datastorage")
    types = [f"step.{number}" for number in range(20)]

    receipt = wire.post(
        f"{datastorage}/api/v1/audit/events/batch", [event(correlation_id, name) for name in types]
    )

    assert receipt.status == 201
    assert [found["event_type"] for found in trail(datastorage, correlation_id)] == types


def test_a_long_trail_comes_in_pages(kindinfra: Stack, correlation_id: str) -> None:
    datastorage = kindinfra.url("datastorage")
    wire.post(f"{datastorage}/api/v1/audit/events/batch", [event(correlation_id)] * 5)

    first = trail(datastorage, correlation_id, limit="3")
    rest = trail(datastorage, correlation_id, limit="3", after=str(first[-1]["position"]))

    assert (len(first), len(rest)) == (3, 2)


def test_the_same_event_is_kept_once(kindinfra: Stack, correlation_id: str) -> None:
    """A writer that got no answer writes again; the trail must not show it."""
    datastorage = kindinfra.url("datastorage")
    sent = event(correlation_id) | {"event_id": str(uuid.uuid4())}

    statuses = [wire.post(f"{datastorage}/api/v1/audit/events", sent).status for _ in range(2)]

    assert statuses == [201, 201]
    assert len(trail(datastorage, correlation_id)) == 1


def test_all_that_is_wrong_with_an_event_is_said(kindinfra: Stack, correlation_id: str) -> None:
    datastorage = kindinfra.url("datastorage")

    answer = wire.post(f"{datastorage}/api/v1/audit/events", {"correlation_id": correlation_id})

    assert answer.status == 400
    assert answer.json["problems"] == [
        "event_type must be a text that is not empty",
        "actor must be a text that is not empty",
    ]
    assert trail(datastorage, correlation_id) == []


def test_a_workflow_has_one_id_however_often_it_is_registered(
    kindinfra: Stack, correlation_id: str
) -> None:
    workflows = f"{kindinfra.url('datastorage')}/api/v1/workflows"
    workflow = {
        "name": correlation_id,
        "version": "1.0.0",
        "signal": f"signal of {correlation_id}",
        "description": "does nothing",
    }

    first, second = wire.post(workflows, workflow), wire.post(workflows, workflow)

    assert (first.status, second.status) == (201, 200)
    assert first.json == second.json
    assert wire.get(f"{workflows}/{first.json['workflow_id']}").json == first.json
    assert wire.get(workflows, signal=workflow["signal"]).json == {"workflows": [first.json]}


@pytest.mark.kindinfra("redis")
def test_a_dead_letter_comes_home(kindinfra: Stack, correlation_id: str) -> None:
    """What waits in Redis since PostgreSQL was away is brought into it."""
    letter = json.dumps(event(correlation_id)).encode()
    command = b"*3\r\n$5\r\nRPUSH\r\n$17\r\naudit:deadletters\r\n$%d\r\n%s\r\n"

    wire.exchange(kindinfra.endpoint("redis"), command % (len(letter), letter), size=1)
    found = wire.eventually(lambda: trail(kindinfra.url("datastorage"), correlation_id), bool)

    assert [found_event["event_type"] for found_event in found] == ["test.happened"]

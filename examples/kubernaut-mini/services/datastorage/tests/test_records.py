"""How requests are read."""

from __future__ import annotations

import pytest
from datastorage.records import AuditEvent, InvalidRecordError, Workflow

_EVENT = {"correlation_id": "r-1", "event_type": "test", "actor": "a test"}


def test_an_event_is_given_an_id_and_a_time() -> None:
    first, second = AuditEvent.parse(_EVENT), AuditEvent.parse(_EVENT)

    assert first.event_id != second.event_id
    assert first.occurred_at.endswith("+00:00")


def test_an_event_is_read_as_it_was_written() -> None:
    event = AuditEvent.parse(_EVENT | {"payload": {"a": [1, None]}})

    assert AuditEvent.parse(event.as_json()) == event


def test_all_problems_are_named_at_once() -> None:
    body = {"event_type": "", "event_id": 7, "occurred_at": "2026-02-30", "payload": []}

    with pytest.raises(InvalidRecordError) as invalid:
        AuditEvent.parse(body)

    assert invalid.value.problems == [
        "event_id must be a UUID",
        "correlation_id must be a text that is not empty",
        "event_type must be a text that is not empty",
        "actor must be a text that is not empty",
        "occurred_at must be a time in ISO 8601",
        "payload must be an object",
    ]


@pytest.mark.parametrize("body", [None, [], "workflow"])
def test_a_workflow_must_be_an_object(body: object) -> None:
    with pytest.raises(InvalidRecordError, match="a workflow must be an object"):
        Workflow.parse(body)

"""Who did what, found in DataStorage when all is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from analyses import spec

if TYPE_CHECKING:
    from analyses import Analyses

    from pytest_kindinfra import Http, Stack

pytestmark = pytest.mark.kindinfra("aianalysis", "datastorage")


def trail(http: Http, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the whole trail: the controller writes it before it says that it is done."""
    answer = http("datastorage").get(
        "/api/v1/audit/events", params={"correlation_id": wanted["remediationId"]}
    )
    events: list[dict[str, Any]] = answer.json()["events"]
    return events


def test_every_step_is_in_the_trail_in_its_order(kindinfra_http: Http, analyses: Analyses) -> None:
    wanted = spec()
    analyses.settle(wanted)

    steps = [(event["actor"], event["event_type"]) for event in trail(kindinfra_http, wanted)]

    assert steps == [
        ("aianalysis-controller", "aianalysis.started"),
        ("holmesgpt-api", "holmesgpt.llm.answered"),
        ("aianalysis-controller", "aianalysis.policy.evaluated"),
        ("aianalysis-controller", "aianalysis.completed"),
    ]


def test_the_need_for_approval_and_its_reason_are_in_the_trail(
    kindinfra_http: Http, analyses: Analyses
) -> None:
    wanted = spec(environment="production")
    analyses.settle(wanted)

    *_, evaluated, last = trail(kindinfra_http, wanted)

    assert evaluated["payload"]["reasons"] == ["production is changed by people only"]
    assert last["event_type"] == "aianalysis.approval.required"


def test_the_trail_names_the_object_and_the_workflow(
    kindinfra: Stack, kindinfra_http: Http, analyses: Analyses
) -> None:
    wanted = spec()
    name = analyses.create(wanted)
    status = analyses.settled(name)

    payloads = {event["event_type"]: event["payload"] for event in trail(kindinfra_http, wanted)}

    assert payloads["aianalysis.completed"]["name"] == name
    assert payloads["aianalysis.completed"]["namespace"] == kindinfra.namespace
    workflow = payloads["aianalysis.policy.evaluated"]["workflow"]
    assert workflow["workflow_id"] == status["selectedWorkflow"]["workflowId"]

"""The seeded catalogue, and what holmesgpt-api and the language model make of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx

    from pytest_kindinfra import Http, Stack


@pytest.mark.kindinfra("scenarios")
def test_the_model_is_told_ids_that_datastorage_knows(
    kindinfra: Stack, kindinfra_http: Http
) -> None:
    config_map = kindinfra.core.read_namespaced_config_map(
        "mock-llm-scenarios", kindinfra.namespace
    )
    assert config_map.data is not None
    scenarios = json.loads(config_map.data["scenarios.json"])

    assert len(scenarios) == 4
    for scenario in scenarios:
        workflow = kindinfra_http("datastorage").get(f"/api/v1/workflows/{scenario['workflow_id']}")
        assert workflow.json()["signal"] == scenario["signal"]


def incident(correlation_id: str, signal: str) -> dict[str, object]:
    return {
        "correlation_id": correlation_id,
        "environment": "staging",
        "signal": {"type": signal},
        "target": {"kind": "Pod", "name": "checkout-0", "namespace": "shop"},
    }


def analyze(http: Http, body: dict[str, object]) -> httpx.Response:
    return http("holmesgpt-api").post("/api/v1/incident/analyze", json=body)


@pytest.mark.kindinfra("holmesgpt-api")
def test_an_incident_is_given_a_cause_and_a_workflow(
    kindinfra_http: Http, correlation_id: str
) -> None:
    answer = analyze(kindinfra_http, incident(correlation_id, "CrashLoopBackOff"))

    assert answer.status_code == 200
    assert "does not start" in answer.json()["root_cause"]
    assert answer.json()["workflow"]["name"] == "roll-back-release"


@pytest.mark.kindinfra("holmesgpt-api")
def test_an_unknown_incident_is_given_no_workflow(
    kindinfra_http: Http, correlation_id: str
) -> None:
    answer = analyze(kindinfra_http, incident(correlation_id, "NobodyHasSeenThisBefore"))

    assert answer.status_code == 200
    assert answer.json()["workflow"] is None
    assert answer.json()["confidence"] < 0.5


@pytest.mark.kindinfra("holmesgpt-api")
def test_an_incident_without_a_signal_is_refused(kindinfra_http: Http, correlation_id: str) -> None:
    answer = analyze(kindinfra_http, {"correlation_id": correlation_id})

    assert answer.status_code == 422

"""The seeded catalogue, and what holmesgpt-api and the language model make of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import wire
from kubernetes.client import CoreV1Api

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("scenarios")
def test_the_model_is_told_ids_that_datastorage_knows(kindinfra: Stack) -> None:
    config_map = CoreV1Api(kindinfra.kube).read_namespaced_config_map(
        "mock-llm-scenarios", kindinfra.namespace
    )
    assert config_map.data is not None
    scenarios = json.loads(config_map.data["scenarios.json"])

    assert len(scenarios) == 4
    for scenario in scenarios:
        workflow = wire.get(
            f"{kindinfra.url('datastorage')}/api/v1/workflows/{scenario['workflow_id']}"
        )
        assert workflow.json["signal"] == scenario["signal"]


def incident(correlation_id: str, signal: str) -> dict[str, object]:
    return {
        "correlation_id": correlation_id,
        "environment": "staging",
        "signal": {"type": signal},
        "target": {"kind": "Pod", "name": "checkout-0", "namespace": "shop"},
    }


@pytest.mark.kindinfra("holmesgpt-api")
def test_an_incident_is_given_a_cause_and_a_workflow(kindinfra: Stack, correlation_id: str) -> None:
    answer = wire.post(
        f"{kindinfra.url('holmesgpt-api')}/api/v1/incident/analyze",
        incident(correlation_id, "CrashLoopBackOff"),
    )

    assert answer.status == 200
    assert "does not start" in answer.json["root_cause"]
    assert answer.json["workflow"]["name"] == "roll-back-release"


@pytest.mark.kindinfra("holmesgpt-api")
def test_an_unknown_incident_is_given_no_workflow(kindinfra: Stack, correlation_id: str) -> None:
    answer = wire.post(
        f"{kindinfra.url('holmesgpt-api')}/api/v1/incident/analyze",
        incident(correlation_id, "NobodyHasSeenThisBefore"),
    )

    assert answer.status == 200
    assert answer.json["workflow"] is None
    assert answer.json["confidence"] < 0.5


@pytest.mark.kindinfra("holmesgpt-api")
def test_an_incident_without_a_signal_is_refused(kindinfra: Stack, correlation_id: str) -> None:
    answer = wire.post(
        f"{kindinfra.url('holmesgpt-api')}/api/v1/incident/analyze",
        {"correlation_id": correlation_id},
    )

    assert answer.status == 422

"""The whole way: an AIAnalysis object is made, and the controller brings it to a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from analyses import Analyses, spec
from kubernetes.client import ApiException

if TYPE_CHECKING:
    from pytest_kindinfra import Http, Stack


@pytest.mark.kindinfra("aianalysis")
@pytest.mark.parametrize(
    ("signal", "workflow"),
    [
        ("OOMKilled", "increase-memory-limit"),
        ("CrashLoopBackOff", "roll-back-release"),
        ("NodeDiskPressure", "collect-images"),
    ],
)
def test_staging_is_completed_with_the_workflow_for_the_signal(
    analyses: Analyses, signal: str, workflow: str
) -> None:
    status = analyses.settle(spec(signal={"type": signal}))

    assert status["phase"] == "Completed"
    assert status["selectedWorkflow"]["name"] == workflow
    assert status["approvalReasons"] == []


@pytest.mark.kindinfra("aianalysis")
def test_production_needs_approval(analyses: Analyses) -> None:
    status = analyses.settle(spec(environment="production"))

    assert status["phase"] == "ApprovalRequired"
    assert status["approvalReasons"] == ["production is changed by people only"]
    assert status["selectedWorkflow"]["name"] == "increase-memory-limit"


@pytest.mark.kindinfra("aianalysis")
def test_a_model_that_is_not_sure_needs_approval(analyses: Analyses) -> None:
    status = analyses.settle(spec(signal={"type": "HighLatency"}))

    assert status["phase"] == "ApprovalRequired"
    assert status["approvalReasons"] == ["the model is not sure enough"]


@pytest.mark.kindinfra("aianalysis")
def test_a_signal_without_a_workflow_needs_approval(analyses: Analyses) -> None:
    status = analyses.settle(spec(signal={"type": "NobodyHasSeenThisBefore"}))

    assert status["phase"] == "ApprovalRequired"
    assert "no workflow in the catalogue fits" in status["approvalReasons"]
    assert "selectedWorkflow" not in status


@pytest.mark.kindinfra("aianalysis")
def test_analyses_of_any_namespace_are_seen(kindinfra: Stack, kindinfra_namespace: str) -> None:
    status = Analyses(kindinfra, kindinfra_namespace).settle(spec())

    assert status["phase"] == "Completed"


@pytest.mark.kindinfra("aianalysis")
def test_an_analysis_can_be_asked_for_over_http(kindinfra: Stack, kindinfra_http: Http) -> None:
    http, url = kindinfra_http("aianalysis"), "/api/v1/analyses"

    answer = http.post(url, json=spec())
    assert answer.status_code == 201
    made = answer.json()

    def shown() -> None:
        seen = http.get(f"{url}/{made['namespace']}/{made['name']}").json()
        assert seen == made | {"phase": "Completed"}

    kindinfra.eventually(shown, timeout=10)


@pytest.mark.kindinfra("crds")
def test_an_unknown_environment_is_refused_by_the_api_server(analyses: Analyses) -> None:
    with pytest.raises(ApiException) as refusal:
        analyses.create(spec(environment="moon"))

    assert refusal.value.status == 422
    assert "spec.environment" in str(refusal.value.body)

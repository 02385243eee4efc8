"""Counters, which other tests move too: only their growth says something."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from analyses import spec

if TYPE_CHECKING:
    from analyses import Analyses

    from pytest_kindinfra import Http, Stack


def count(http: Http, service: str, sample: str) -> int:
    text = http(service, "metrics").get("/metrics").text
    found = re.search(rf"^{re.escape(sample)} (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_explains_its_counters(kindinfra_http: Http) -> None:
    answer = kindinfra_http("aianalysis", "metrics").get("/metrics")

    assert answer.status_code == 200
    assert "# TYPE aianalysis_settled_total counter" in answer.text
    assert "# TYPE aianalysis_errors_total counter" in answer.text


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_counts_what_it_settles(
    kindinfra: Stack, kindinfra_http: Http, analyses: Analyses
) -> None:
    sample = 'aianalysis_settled_total{phase="ApprovalRequired"}'
    before = count(kindinfra_http, "aianalysis", sample)

    analyses.settle(spec(environment="production"))

    def grown() -> None:
        assert count(kindinfra_http, "aianalysis", sample) > before

    kindinfra.eventually(grown, timeout=10)


@pytest.mark.kindinfra("datastorage")
def test_datastorage_counts_what_it_stores(kindinfra_http: Http, correlation_id: str) -> None:
    """By an endpoint that no k8s service has."""
    sample = 'datastorage_events_total{outcome="stored"}'
    event = {"correlation_id": correlation_id, "event_type": "test", "actor": "a test"}
    before = count(kindinfra_http, "datastorage", sample)

    kindinfra_http("datastorage").post("/api/v1/audit/events/batch", json=[event] * 3)

    assert count(kindinfra_http, "datastorage", sample) >= before + 3

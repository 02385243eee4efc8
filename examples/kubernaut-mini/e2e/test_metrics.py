"""Counters, which other tests move too: only their growth says something."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import wire
from analyses import spec

if TYPE_CHECKING:
    from analyses import Analyses

    from pytest_kindinfra import Stack


def count(metrics: str, sample: str) -> int:
    found = re.search(rf"^{re.escape(sample)} (\d+)$", wire.get(metrics).text, re.MULTILINE)
    return int(found[1]) if found else 0


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_explains_its_counters(kindinfra: Stack) -> None:
    answer = wire.get(f"{kindinfra.url('aianalysis', 'metrics')}/metrics")

    assert answer.status == 200
    assert "# TYPE aianalysis_settled_total counter" in answer.text
    assert "# TYPE aianalysis_errors_total counter" in answer.text


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_counts_what_it_settles(kindinfra: Stack, analyses: Analyses) -> None:
    metrics = f"{kindinfra.url('aianalysis', 'metrics')}/metrics"
    sample = 'aianalysis_settled_total{phase="ApprovalRequired"}'
    before = count(metrics, sample)

    analyses.settle(spec(environment="production"))
    after = wire.eventually(lambda: count(metrics, sample), lambda seen: seen > before)

    assert after > before


@pytest.mark.kindinfra("datastorage")
def test_datastorage_counts_what_it_stores(kindinfra: Stack, correlation_id: str) -> None:
    """By an endpoint that no k8s service has."""
    metrics = f"{kindinfra.url('datastorage', 'metrics')}/metrics"
    sample = 'datastorage_events_total{outcome="stored"}'
    event = {"correlation_id": correlation_id, "event_type": "test", "actor": "a test"}
    before = count(metrics, sample)

    wire.post(f"{kindinfra.url('datastorage')}/api/v1/audit/events/batch", [event] * 3)

    assert count(metrics, sample) >= before + 3

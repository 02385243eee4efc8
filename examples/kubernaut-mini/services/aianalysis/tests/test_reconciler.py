"""From a new object to a settled one, with a fake for each of the three others."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aianalysis.model import Advice, Analysis, Key, Phase
from aianalysis.policy import Policy
from aianalysis.reconciler import IncidentRefusedError, Reconciler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KEY = Key("shop", "analysis-1")
_POLICY = Policy.parse('reasons contains "live" if {\n input.environment == "production"\n}')
_ADVICE = Advice(
    root_cause="too little memory",
    confidence=0.9,
    workflow={"workflow_id": "w-1", "name": "more-memory", "version": "1"},
)


class World:
    """The API server, holmesgpt-api and DataStorage in one; remembers its requests."""

    def __init__(self, environment: str = "staging", phase: str = "") -> None:
        self.statuses: list[Mapping[str, Any]] = []
        self.events: list[Mapping[str, Any]] = []
        self.refusal: Exception | None = None
        spec = {"remediationId": "r-1", "environment": environment}
        self.analysis: Analysis | None = Analysis(
            key=_KEY, uid=str(uuid.uuid4()), phase=phase, spec=spec
        )

    def get(self, key: Key) -> Analysis | None:
        assert key == _KEY
        return self.analysis

    def set_status(self, key: Key, status: Mapping[str, Any]) -> None:
        assert key == _KEY
        self.statuses.append(status)

    def advise(self, analysis: Analysis) -> Advice:
        assert analysis is self.analysis
        if self.refusal is not None:
            raise self.refusal
        return _ADVICE

    def write(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.events.extend(events)

    def reconcile(self) -> Phase | None:
        return Reconciler(self, self, self, _POLICY).reconcile(_KEY)

    @property
    def steps(self) -> list[str]:
        return [event["event_type"].removeprefix("aianalysis.") for event in self.events]


def test_a_new_object_is_completed() -> None:
    world = World()

    assert world.reconcile() is Phase.COMPLETED
    assert [status["phase"] for status in world.statuses] == ["Investigating", "Completed"]
    assert world.steps == ["started", "policy.evaluated", "completed"]


def test_production_is_not_completed() -> None:
    world = World(environment="production")

    assert world.reconcile() is Phase.APPROVAL_REQUIRED
    assert world.statuses[-1]["approvalReasons"] == ["live"]


@pytest.mark.parametrize("phase", ["Completed", "ApprovalRequired", "Failed"])
def test_a_settled_object_is_left_alone(phase: str) -> None:
    world = World(phase=phase)

    assert world.reconcile() is None
    assert (world.statuses, world.events) == ([], [])


def test_an_object_that_is_gone_is_left_alone() -> None:
    world = World()
    world.analysis = None

    assert world.reconcile() is None


def test_another_try_goes_on_where_the_first_one_failed() -> None:
    world = World(phase="Investigating")

    assert world.reconcile() is Phase.COMPLETED
    assert world.steps == ["policy.evaluated", "completed"]


def test_another_try_writes_the_same_events() -> None:
    world = World()
    world.reconcile()
    first = [event["event_id"] for event in world.events]
    world.events.clear()
    world.reconcile()

    assert [event["event_id"] for event in world.events] == first


def test_an_incident_that_is_refused_has_failed() -> None:
    world = World()
    world.refusal = IncidentRefusedError("no such signal")

    assert world.reconcile() is Phase.FAILED
    assert world.statuses[-1]["message"] == "no such signal"

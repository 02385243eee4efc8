"""What happens to one AIAnalysis object, from new to settled.

Each try starts from what the API server says now and every step may be repeated, so a crash or an
error at any point needs no more than another try.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from aianalysis.model import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aianalysis.model import Advice, Analysis, Key
    from aianalysis.policy import Policy


class IncidentRefusedError(Exception):
    """holmesgpt-api will never take this incident."""


class Cluster(Protocol):
    """Where the objects are."""

    def get(self, key: Key) -> Analysis | None:
        """Return the object as it is now, or None if it is gone."""

    def set_status(self, key: Key, status: Mapping[str, Any]) -> None:
        """Merge *status* into the object's; one that is gone is no error."""


class Advisor(Protocol):
    """Who knows what is wrong."""

    def advise(self, analysis: Analysis) -> Advice:
        """Return an opinion. IncidentRefusedError: there will be none, ever."""


class AuditTrail(Protocol):
    """Where it is written down."""

    def write(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Keep *events*; one whose id is known already is no error."""


class Reconciler:
    """Holds what a reconciliation needs."""

    def __init__(
        self, cluster: Cluster, advisor: Advisor, trail: AuditTrail, policy: Policy
    ) -> None:
        self._cluster = cluster
        self._advisor = advisor
        self._trail = trail
        self._policy = policy

    def reconcile(self, key: Key) -> Phase | None:
        """Settle the object at *key* and return its phase; None if nothing was to be done."""
        analysis = self._cluster.get(key)
        if analysis is None or analysis.settled:
            return None
        self._begin(analysis)
        try:
            advice = self._advisor.advise(analysis)
        except IncidentRefusedError as error:
            return self._settle(analysis, Phase.FAILED, {"message": str(error)})
        return self._decide(analysis, advice)

    def _begin(self, analysis: Analysis) -> None:
        if analysis.phase == Phase.INVESTIGATING:
            return
        self._trail.write([_event(analysis, "aianalysis.started", {})])
        status = {"phase": Phase.INVESTIGATING, "startedAt": _now()}
        self._cluster.set_status(analysis.key, status)

    def _decide(self, analysis: Analysis, advice: Advice) -> Phase:
        facts = {
            "environment": analysis.spec["environment"],
            "confidence": advice.confidence,
            "workflow": advice.workflow,
        }
        reasons = self._policy.reasons(facts)
        self._trail.write(
            [_event(analysis, "aianalysis.policy.evaluated", facts | {"reasons": reasons})]
        )
        result = {
            "rootCause": advice.root_cause,
            "confidence": advice.confidence,
            "selectedWorkflow": _as_status(advice.workflow),
            "approvalReasons": reasons,
        }
        phase = Phase.APPROVAL_REQUIRED if reasons else Phase.COMPLETED
        return self._settle(analysis, phase, result)

    def _settle(self, analysis: Analysis, phase: Phase, result: Mapping[str, Any]) -> Phase:
        """Write the end down, then say it: who sees the phase finds the whole trail."""
        event_type = f"aianalysis.{_LAST_WORDS[phase]}"
        self._trail.write([_event(analysis, event_type, {"phase": phase})])
        status = {"phase": phase, "completedAt": _now(), **result}
        self._cluster.set_status(analysis.key, status)
        return phase


_LAST_WORDS = {
    Phase.COMPLETED: "completed",
    Phase.APPROVAL_REQUIRED: "approval.required",
    Phase.FAILED: "failed",
}


def _event(analysis: Analysis, event_type: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    place = {"namespace": analysis.key.namespace, "name": analysis.key.name}
    return {
        "event_id": analysis.event_id(event_type),
        "correlation_id": analysis.correlation_id,
        "event_type": event_type,
        "actor": "aianalysis-controller",
        "payload": {**place, **payload},
    }


def _as_status(workflow: Mapping[str, str] | None) -> dict[str, str] | None:
    if workflow is None:
        return None
    return {
        "workflowId": workflow["workflow_id"],
        "name": workflow["name"],
        "version": workflow["version"],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

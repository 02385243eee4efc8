"""AIAnalysis objects as the controller sees them. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping  # noqa: TC003 - compiled classes look their annotations up
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

GROUP = "kubernaut.ai"
VERSION = "v1alpha1"
PLURAL = "aianalyses"
KIND = "AIAnalysis"


class Phase(StrEnum):
    """How far an analysis is; a new object has no phase at all."""

    INVESTIGATING = "Investigating"
    COMPLETED = "Completed"
    APPROVAL_REQUIRED = "ApprovalRequired"
    FAILED = "Failed"


_SETTLED = frozenset({Phase.COMPLETED, Phase.APPROVAL_REQUIRED, Phase.FAILED})


class Key(NamedTuple):
    """Where an object is."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """One AIAnalysis object."""

    key: Key
    uid: str
    phase: str
    spec: Mapping[str, Any]

    @classmethod
    def parse(cls, item: Mapping[str, Any]) -> Analysis:
        """Read an object as the API server returns it; the CRD has checked its form."""
        return cls(
            key=key_of(item),
            uid=item["metadata"]["uid"],
            phase=item.get("status", {}).get("phase", ""),
            spec=item["spec"],
        )

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.phase in _SETTLED

    @property
    def correlation_id(self) -> str:
        """What all audit events about this remediation share."""
        return str(self.spec["remediationId"])

    def event_id(self, event_type: str) -> str:
        """Return the same id for the same event at each try: DataStorage then keeps it once."""
        return str(uuid.uuid5(uuid.UUID(self.uid), event_type))


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What holmesgpt-api said."""

    root_cause: str
    confidence: float
    workflow: Mapping[str, str] | None


def key_of(item: Mapping[str, Any]) -> Key:
    """Return where *item* is."""
    return Key(item["metadata"]["namespace"], item["metadata"]["name"])

"""The two services that the controller calls."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from kubernaut_kit.jsonclient import CallError, call

from aianalysis.model import Advice
from aianalysis.reconciler import IncidentRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aianalysis.model import Analysis


class HolmesGpt:
    """holmesgpt-api."""

    def __init__(self, url: str) -> None:
        self._url = url

    def advise(self, analysis: Analysis) -> Advice:
        """Return an opinion. IncidentRefusedError: there will be none, ever."""
        incident = {
            "correlation_id": analysis.correlation_id,
            "environment": analysis.spec["environment"],
            "signal": analysis.spec["signal"],
            "target": analysis.spec["target"],
        }
        try:
            answer = call("POST", f"{self._url}/api/v1/incident/analyze", incident, timeout=20)
        except CallError as error:
            if error.status == HTTPStatus.UNPROCESSABLE_ENTITY:
                raise IncidentRefusedError(str(error)) from error
            raise
        return Advice(**cast("Mapping[str, Any]", answer))


class DataStorage:
    """DataStorage, of which only the audit trail is of interest here."""

    def __init__(self, url: str) -> None:
        self._url = url

    def write(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Keep *events*; one whose id is known already is no error."""
        call("POST", f"{self._url}/api/v1/audit/events/batch", list(events))

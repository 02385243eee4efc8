"""One investigation: catalogue, question, verdict, audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holmesgpt_api.prompt import INSTRUCTIONS, question
from holmesgpt_api.schema import Analysis, Incident, SelectedWorkflow
from holmesgpt_api.verdict import UnusableAnswerError, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx
    from openai import AsyncOpenAI


@dataclass(frozen=True, slots=True, kw_only=True)
class Investigator:
    """Holds the two others that an investigation needs: the model and DataStorage."""

    llm: AsyncOpenAI
    model: str
    datastorage: httpx.AsyncClient

    async def investigate(self, incident: Incident) -> Analysis:
        """Return what the model thinks of *incident*, checked against the catalogue."""
        workflows = await self._catalogue(incident)
        verdict = await self._ask(incident, workflows)
        analysis = Analysis(
            root_cause=verdict.root_cause,
            confidence=verdict.confidence,
            workflow=_chosen(verdict, workflows),
        )
        await self._audit(incident, analysis)
        return analysis

    async def _catalogue(self, incident: Incident) -> list[dict[str, Any]]:
        answer = await self.datastorage.get(
            "/api/v1/workflows", params={"signal": incident.signal.type}
        )
        answer.raise_for_status()
        workflows: list[dict[str, Any]] = answer.json()["workflows"]
        return workflows

    async def _ask(self, incident: Incident, workflows: Sequence[dict[str, Any]]) -> Verdict:
        completion = await self.llm.chat.completions.create(
            model=self.model,
            messages=[
                {"role": "system", "content": INSTRUCTIONS},
                {"role": "user", "content": question(incident.model_dump(), workflows)},
            ],
        )
        return Verdict.parse(completion.choices[0].message.content or "")

    async def _audit(self, incident: Incident, analysis: Analysis) -> None:
        event = {
            "correlation_id": incident.correlation_id,
            "event_type": "holmesgpt.llm.answered",
            "actor": "holmesgpt-api",
            "payload": {"model": self.model, **analysis.model_dump()},
        }
        answer = await self.datastorage.post("/api/v1/audit/events", json=event)
        answer.raise_for_status()


def _chosen(verdict: Verdict, workflows: Sequence[dict[str, Any]]) -> SelectedWorkflow | None:
    """Return the workflow that the model chose; one that it made up is no answer at all."""
    if verdict.workflow_id is None:
        return None
    for workflow in workflows:
        if workflow["workflow_id"] == verdict.workflow_id:
            return SelectedWorkflow.model_validate(workflow)
    message = f"the model chose {verdict.workflow_id}, which it was not offered"
    raise UnusableAnswerError(message)

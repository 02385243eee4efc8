"""The requests and answers of holmesgpt-api."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Signal(BaseModel):
    """What was noticed."""

    type: str = Field(min_length=1, examples=["OOMKilled"])
    severity: str = "warning"
    message: str = ""


class Target(BaseModel):
    """The object that it was noticed on."""

    kind: str
    name: str
    namespace: str


class Incident(BaseModel):
    """What is to be analysed."""

    correlation_id: str = Field(min_length=1)
    environment: str
    signal: Signal
    target: Target


class SelectedWorkflow(BaseModel):
    """The remedy that the model chose from the catalogue."""

    workflow_id: str
    name: str
    version: str


class Analysis(BaseModel):
    """The answer; no workflow means that nothing in the catalogue fits."""

    root_cause: str
    confidence: float
    workflow: SelectedWorkflow | None

"""Scenarios, and which of them a question is about. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What the mock answers to questions that name *signal*."""

    signal: str
    root_cause: str
    confidence: float
    workflow_id: str | None = None

    def verdict(self) -> str:
        """Return the answer as a model gives it: JSON in a fence, with words around it."""
        fields = asdict(self)
        del fields["signal"]
        return f"Here is what I found.\n\n```json\n{json.dumps(fields)}\n```\n"


NONE_FITS = Scenario(signal="", root_cause="unknown: no scenario fits", confidence=0.1)


def parse(text: str) -> tuple[Scenario, ...]:
    """Read the list of scenarios that seeding DataStorage has left behind."""
    return tuple(Scenario(**fields) for fields in json.loads(text))


def choose(scenarios: Sequence[Scenario], question: str) -> Scenario:
    """Return the first scenario whose signal the question names as a whole word."""
    for scenario in scenarios:
        if re.search(rf"\b{re.escape(scenario.signal)}\b", question):
            return scenario
    return NONE_FITS

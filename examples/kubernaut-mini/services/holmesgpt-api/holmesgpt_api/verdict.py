"""What the language model answered: it is read with suspicion. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)


class UnusableAnswerError(ValueError):
    """The model did not answer in the form that it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The model's opinion."""

    root_cause: str
    confidence: float
    workflow_id: str | None

    @classmethod
    def parse(cls, text: str) -> Verdict:
        """Read the JSON object in *text*, which models like to wrap in a fence and in words."""
        fields = _object_in(text)
        root_cause, confidence = fields.get("root_cause"), fields.get("confidence")
        workflow_id = fields.get("workflow_id")
        if not isinstance(root_cause, str) or not root_cause:
            raise UnusableAnswerError(_complaint("root_cause", root_cause))
        if isinstance(confidence, bool) or not isinstance(confidence, int | float):
            raise UnusableAnswerError(_complaint("confidence", confidence))
        if not 0 <= confidence <= 1:
            raise UnusableAnswerError(_complaint("confidence", confidence))
        if workflow_id is not None and not isinstance(workflow_id, str):
            raise UnusableAnswerError(_complaint("workflow_id", workflow_id))
        return cls(root_cause=root_cause, confidence=float(confidence), workflow_id=workflow_id)


def _object_in(text: str) -> dict[str, object]:
    fenced = _FENCED.search(text)
    try:
        fields = json.loads(fenced[1] if fenced else text)
    except json.JSONDecodeError as error:
        message = f"no JSON in the model's answer: {text[:200]!r}"
        raise UnusableAnswerError(message) from error
    if not isinstance(fields, dict):
        message = f"the model answered with {type(fields).__name__} and not with an object"
        raise UnusableAnswerError(message)
    return fields


def _complaint(name: str, value: object) -> str:
    return f"the model's {name} is {value!r}"

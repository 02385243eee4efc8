"""How the model's answers are read, and how it is asked."""

from __future__ import annotations

import pytest
from holmesgpt_api.prompt import question
from holmesgpt_api.verdict import UnusableAnswerError, Verdict

_JSON = '{"root_cause": "too hot", "confidence": 0.5, "workflow_id": "w-1"}'
_VERDICT = Verdict(root_cause="too hot", confidence=0.5, workflow_id="w-1")


@pytest.mark.parametrize(
    "text",
    [_JSON, f"```json\n{_JSON}\n```", f"I think so:\n\n```\n{_JSON}\n```\nAnything else?"],
    ids=["bare", "fenced", "among words"],
)
def test_an_answer_is_found(text: str) -> None:
    assert Verdict.parse(text) == _VERDICT


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("I do not know", "no JSON in the model's answer: 'I do not know'"),
        ("[]", "answered with list"),
        ('{"confidence": 0.5}', "the model's root_cause is None"),
        ('{"root_cause": "x", "confidence": "high"}', "the model's confidence is 'high'"),
        ('{"root_cause": "x", "confidence": 1.5}', "the model's confidence is 1.5"),
        ('{"root_cause": "x", "confidence": 1, "workflow_id": 7}', "workflow_id is 7"),
    ],
)
def test_an_answer_that_makes_no_sense_is_not_used(text: str, complaint: str) -> None:
    with pytest.raises(UnusableAnswerError, match=complaint):
        Verdict.parse(text)


def test_the_question_holds_the_facts_and_the_offers() -> None:
    workflow = {"workflow_id": "w-1", "name": "cool", "version": "1", "description": "add a fan"}

    text = question({"environment": "staging", "signal": {"type": "TooHot"}}, [workflow])

    assert 'signal: {"type": "TooHot"}' in text
    assert "- w-1: cool 1, add a fan" in text

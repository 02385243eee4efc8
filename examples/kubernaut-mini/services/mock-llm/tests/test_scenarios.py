"""Which scenario a question is about."""

from __future__ import annotations

import json

import pytest
from mock_llm.scenarios import NONE_FITS, Scenario, choose, parse

_HOT = Scenario(signal="Hot", root_cause="the sun", confidence=0.9, workflow_id="w-1")
_COLD = Scenario(signal="Cold", root_cause="the moon", confidence=0.8)


@pytest.mark.parametrize(
    ("question", "scenario"),
    [
        ('signal: {"type": "Cold"}', _COLD),
        ("it is Hot here", _HOT),
        ("it is Hotter here", NONE_FITS),
        ("", NONE_FITS),
    ],
)
def test_the_signal_in_the_question_chooses(question: str, scenario: Scenario) -> None:
    assert choose([_HOT, _COLD], question) is scenario


def test_scenarios_are_read_from_json() -> None:
    fields = {"signal": "Cold", "root_cause": "the moon", "confidence": 0.8}

    assert parse(json.dumps([fields])) == (_COLD,)


def test_a_verdict_is_json_in_a_fence() -> None:
    _, fenced, _ = _HOT.verdict().split("```")

    assert json.loads(fenced.removeprefix("json")) == {
        "root_cause": "the sun",
        "confidence": 0.9,
        "workflow_id": "w-1",
    }

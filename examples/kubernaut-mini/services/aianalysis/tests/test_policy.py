"""The approval policy: what it reads, what it refuses, what it decides."""

from __future__ import annotations

import pytest
from aianalysis.policy import Policy, PolicyError

_POLICY = Policy.parse("""
package aianalysis.approval

import rego.v1

reasons contains "production # not staging" if {  # a comment
    input.environment == "production"
}

reasons contains "unsure" if {
    input.confidence < 0.8
    input.environment != "development"
}

reasons contains "nothing fits" if {
    input.workflow == null
}
""")


@pytest.mark.parametrize(
    ("facts", "reasons"),
    [
        pytest.param(
            {"environment": "staging", "confidence": 0.9, "workflow": {}}, [], id="no rule applies"
        ),
        pytest.param(
            {"environment": "production", "confidence": 0.1, "workflow": None},
            ["production # not staging", "unsure", "nothing fits"],
            id="all rules apply, in their order",
        ),
        pytest.param(
            {"environment": "development", "confidence": 0.1, "workflow": {}},
            [],
            id="all conditions of a rule must hold",
        ),
        pytest.param({}, [], id="a missing value fulfils nothing"),
        pytest.param({"confidence": "low", "environment": "x"}, [], id="no order between kinds"),
    ],
)
def test_a_policy_gives_reasons(facts: dict[str, object], reasons: list[str]) -> None:
    assert _POLICY.reasons(facts) == reasons


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("deny if { true }", "not understood as a rule: deny"),
        ('reasons contains "x" if { input.a }', "not understood as a condition: input.a"),
        ('reasons contains "x" if { input.a == b }', "not understood as a constant: b"),
        ('reasons contains "x" if { }', 'the rule for "x" has no condition'),
    ],
)
def test_what_is_not_understood_is_not_skipped(text: str, complaint: str) -> None:
    with pytest.raises(PolicyError, match=complaint):
        Policy.parse(text)

r"""The approval policy: a small part of Rego, enough for a list of reasons.

What it understands, besides ``package``, ``import`` and comments::

    reasons contains "production is changed by people" if {
        input.environment == "production"
        input.confidence < 0.99
    }

All conditions of a rule must hold; a path that the input does not have makes its condition fail,
as in Rego. The file works in a real Rego engine as well.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_COMMENT = re.compile(r'^((?:[^"#]|"(?:[^"\\]|\\.)*")*)#.*$', re.MULTILINE)
_PREAMBLE = re.compile(r"^\s*(?:package|import)\s+[\w.]+\s*$", re.MULTILINE)
_RULE = re.compile(
    r'\s*reasons\s+contains\s+(?P<reason>"(?:[^"\\]|\\.)*")\s+if\s*\{(?P<conditions>[^{}]*)\}\s*'
)
_CONDITION = re.compile(r"input\.(?P<path>\w+(?:\.\w+)*)\s*(?P<sign>[=!<>]=|[<>])\s*(?P<value>.+)")
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class PolicyError(ValueError):
    """The text is no policy that this controller understands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A comparison of one place in the input with a constant."""

    path: tuple[str, ...]
    sign: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read ``input.PATH SIGN CONSTANT``, the constant being JSON."""
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise PolicyError(_complaint("a condition", text))
        try:
            value = json.loads(found["value"])
        except json.JSONDecodeError as error:
            raise PolicyError(_complaint("a constant", found["value"])) from error
        return cls(path=tuple(found["path"].split(".")), sign=found["sign"], value=value)

    def holds(self, facts: object) -> bool:
        """Tell whether the comparison is true for *facts*."""
        for name in self.path:
            if not isinstance(facts, Mapping) or name not in facts:
                return False
            facts = facts[name]
        try:
            return _SIGNS[self.sign](facts, self.value)
        except TypeError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A reason to ask a human, and when it applies."""

    reason: str
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules of a policy file."""

    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read a policy, all of it: what is not understood must not be skipped."""
        rest = _PREAMBLE.sub("", _COMMENT.sub(r"\1", text)).strip()
        rules = []
        while rest:
            found = _RULE.match(rest)
            if found is None:
                raise PolicyError(_complaint("a rule", rest.splitlines()[0]))
            rules.append(_rule(found["reason"], found["conditions"]))
            rest = rest[found.end() :]
        return cls(tuple(rules))

    def reasons(self, facts: Mapping[str, object]) -> list[str]:
        """Return why *facts* need a human's approval, in the order of the rules."""
        return [
            rule.reason
            for rule in self.rules
            if all(condition.holds(facts) for condition in rule.conditions)
        ]


def _rule(reason: str, conditions: str) -> Rule:
    lines = [line.strip() for line in conditions.splitlines() if line.strip()]
    if not lines:
        message = f"the rule for {reason} has no condition"
        raise PolicyError(message)
    return Rule(reason=json.loads(reason), conditions=tuple(map(Condition.parse, lines)))


def _complaint(what: str, text: str) -> str:
    return f"not understood as {what}: {text}"

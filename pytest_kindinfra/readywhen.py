"""Readiness as a user declares it, for kinds that Kubernetes itself does not bring.

A custom resource says in its own way that it is ready, and many never say it: so nothing is
guessed. The words are those of `kubectl wait --for`. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.podspecs import group

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.model import KubeObject

EXPECTED = '"condition=TYPE", "condition=TYPE=STATUS" or "jsonpath={.status.FIELD}=VALUE"'

_CONDITION = re.compile(r"condition=([A-Za-z][\w./-]*)(?:=(\w+))?")
_FIELD = re.compile(r"jsonpath=\{((?:\.[A-Za-z_][\w-]*)+)\}(?:=(.+))?")


@dataclass(frozen=True, slots=True)
class ReadyWhen:
    """What an object must say to be ready.

    Attributes:
        condition: The type of a condition; empty if a field is meant.
        field: The keys that lead to a field; empty if a condition is meant.
        value: What must stand there; empty for anything, of a field.
    """

    condition: str = ""
    field: tuple[str, ...] = ()
    value: str = ""

    def lack(self, obj: KubeObject) -> str:
        """Say what the object lacks; nothing if it is ready."""
        if self._is_of_old(obj.get("status") or {}, obj):
            return "its controller has not seen the last change"
        return self._lack_of_condition(obj) if self.condition else self._lack_of_field(obj)

    def _lack_of_condition(self, obj: KubeObject) -> str:
        wanted = self.condition.lower()
        for entry in (obj.get("status") or {}).get("conditions") or ():
            if str(entry.get("type", "")).lower() != wanted or self._is_of_old(entry, obj):
                continue
            if str(entry.get("status", "")).lower() == self.value.lower():
                return ""
            said = (entry.get("reason"), entry.get("message"))
            told = [f"condition {self.condition} is {entry.get('status')}", *filter(None, said)]
            return ": ".join(map(str, told))
        return f"condition {self.condition} is not there yet"

    def _lack_of_field(self, obj: KubeObject) -> str:
        name, value = ".".join(self.field), _value_at(obj, self.field)
        if value is None:
            return f"{name} is not there yet"
        said = str(value).lower() if isinstance(value, bool) else str(value)
        return "" if self.value in {"", said} else f'{name} is "{said}", not "{self.value}"'

    @staticmethod
    def _is_of_old(said: dict[str, Any], obj: KubeObject) -> bool:
        seen = said.get("observedGeneration")
        return isinstance(seen, int) and seen < obj["metadata"].get("generation", 0)


Rules = tuple[tuple[str, ReadyWhen], ...]
"""For each kind, as `Kind` or `Kind.group`, what its objects must say."""


def parse_ready_when(text: str) -> ReadyWhen:
    """Return what a text such as `condition=Ready` means.

    Raises:
        ValueError: It means nothing.
    """
    if found := _CONDITION.fullmatch(text):
        return ReadyWhen(condition=found[1], value=found[2] or "True")
    if found := _FIELD.fullmatch(text):
        return ReadyWhen(field=tuple(found[1].split(".")[1:]), value=found[2] or "")
    raise ValueError(text)


def rules_of(pairs: Iterable[tuple[str, str]]) -> Rules:
    """Return the rules that a service declares, by kind."""
    return tuple((kind, parse_ready_when(text)) for kind, text in pairs)


def is_meant(kind: str, obj: KubeObject) -> bool:
    """Whether a declared kind, `Kind` or `Kind.group`, is that of the object."""
    return kind in {obj.get("kind"), f"{obj.get('kind')}.{group(obj)}"}


def rule_for(obj: KubeObject, rules: Rules) -> ReadyWhen | None:
    """Return the rule that is declared for the object's kind."""
    return next((rule for kind, rule in rules if is_meant(kind, obj)), None)


def _value_at(obj: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj

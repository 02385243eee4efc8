"""Counters in Prometheus' text format."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from kubernaut_kit.web import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubernaut_kit.web import Request

_Labels = tuple[tuple[str, str], ...]


class Counters:
    """The counters of one process, by metric name and labels."""

    def __init__(self, helps: Mapping[str, str]) -> None:
        """Declare every counter with its help text; one that never counted is shown as 0."""
        self._helps = dict(helps)
        self._counts: dict[str, Counter[_Labels]] = {name: Counter() for name in helps}
        self._lock = threading.Lock()

    def add(self, name: str, amount: int = 1, **labels: str) -> None:
        """Count *amount* more of *name*."""
        with self._lock:
            self._counts[name][tuple(sorted(labels.items()))] += amount

    def render(self) -> str:
        """Return what a scrape gets."""
        with self._lock:
            return "".join(self._metric(name) for name in self._helps)

    def answer(self, _request: Request) -> Answer:
        """Answer ``GET /metrics``."""
        return Answer(self.render())

    def _metric(self, name: str) -> str:
        samples = self._counts[name] or {(): 0}
        lines = [f"# HELP {name} {self._helps[name]}", f"# TYPE {name} counter"]
        lines += [f"{name}{_braces(labels)} {count}" for labels, count in samples.items()]
        return "\n".join(lines) + "\n"


def _braces(labels: _Labels) -> str:
    return (
        "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}"
        if labels
        else ""
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

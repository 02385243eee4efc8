"""What the language model is asked. Pure text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INSTRUCTIONS = """\
You investigate incidents in a Kubernetes cluster. Answer with one JSON object:
{"root_cause": text, "confidence": number from 0 to 1, "workflow_id": text or null}.
workflow_id must be one of the workflows that you are offered, or null if none fits.
"""


def question(incident: Mapping[str, object], workflows: Iterable[Mapping[str, object]]) -> str:
    """Return the question about one incident: its facts, then the workflows on offer."""
    facts = "\n".join(f"{name}: {_shown(value)}" for name, value in incident.items())
    offers = "\n".join(f"- {_offer(workflow)}" for workflow in workflows) or "- none"
    return f"Incident\n{facts}\n\nWorkflows on offer\n{offers}\n"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _offer(workflow: Mapping[str, object]) -> str:
    return "{workflow_id}: {name} {version}, {description}".format_map(workflow)

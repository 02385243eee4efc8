"""Seeds DataStorage, and tells mock-llm the ids that came of it.

kindinfra.toml names `scenarios` as the way to bring up the service of that name: it is run once per
run, as soon as DataStorage is ready, and what it returns is applied.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kindinfra import Stack

_FILES = Path(__file__).parent / "scenarios"


class SeedError(Exception):
    """DataStorage did not take a workflow."""


def scenarios(stack: Stack) -> dict[str, Any]:
    """Register the workflow of each scenario and return mock-llm's ConfigMap."""
    datastorage = stack.url("datastorage")
    files = sorted(_FILES.glob("*.json"))
    told = [_seeded(datastorage, json.loads(file.read_text(encoding="utf-8"))) for file in files]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mock-llm-scenarios"},
        "data": {"scenarios.json": json.dumps(told, indent=2)},
    }


def _seeded(datastorage: str, scenario: Mapping[str, Any]) -> dict[str, Any]:
    """Return *scenario* as mock-llm reads it: with an id where its workflow was described.

    The same workflow has the same id each time, so a kept cluster may be seeded again.
    """
    answer = httpx.post(
        f"{datastorage}/api/v1/workflows",
        json={**scenario["workflow"], "signal": scenario["signal"]},
        trust_env=False,
    )
    if answer.status_code not in {HTTPStatus.OK, HTTPStatus.CREATED}:
        message = f"{scenario['workflow']['name']}: {answer.status_code} {answer.text}"
        raise SeedError(message)
    return {
        "signal": scenario["signal"],
        "root_cause": scenario["root_cause"],
        "confidence": scenario["confidence"],
        "workflow_id": answer.json()["workflow_id"],
    }

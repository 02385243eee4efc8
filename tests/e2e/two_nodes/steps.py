"""What the service that a hook adds applies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


def config_map(stack: Stack) -> dict[str, Any]:  # noqa: ARG001
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "from-hook"}, "data": {}}

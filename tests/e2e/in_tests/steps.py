"""Fills a worker's own store; called once for each copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


def seed(stack: Stack) -> list[dict[str, Any]]:
    """Write a file into the store, and leave a ConfigMap beside it."""
    text = (Path(__file__).parent / "seed.txt").read_text()
    stack.exec("store", ["sh", "-c", "cat > /www/seed.txt"], input=text, check=True)
    data = {"store": stack.url("store"), "namespace": stack.namespace}
    return [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seed"}, "data": data}]

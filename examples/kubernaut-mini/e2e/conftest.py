"""What several files of tests share. Which services a test needs is said by its own mark."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from analyses import Analyses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra import Stack


@pytest.fixture
def correlation_id() -> str:
    """An id that no other test uses, and no other run on the same cluster."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
def analyses(kindinfra: Stack) -> Iterator[Analyses]:
    """AIAnalysis objects in the namespace of the services."""
    made = Analyses(kindinfra, kindinfra.namespace)
    yield made
    made.delete_all()

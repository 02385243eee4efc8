"""What unit tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.coordination import RunDirectory
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def soon() -> Deadline:
    """Time enough for everything that works."""
    return Deadline.after(20)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "artifacts" / "run-1")

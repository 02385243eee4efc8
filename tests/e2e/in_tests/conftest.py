"""Tells the tests which others run at the same time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra import Stack


@pytest.fixture(autouse=True)
def running(request: pytest.FixtureRequest, kindinfra: Stack) -> Iterator[Callable[[], list[str]]]:
    """Returns the names of the tests that run now, this one too."""
    folder = Path("running") / kindinfra.run_id
    folder.mkdir(parents=True, exist_ok=True)
    mine = folder / f"{request.node.name}.{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    mine.touch()
    yield lambda: [file.stem for file in folder.iterdir()]
    mine.unlink()

"""What unit tests share."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from pathlib import Path


# Examples are judged by what comes out, never by time: machines are noisy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _own_temporary_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep away from the host's lock, which real runs hold while they create clusters."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("tmp")))


@pytest.fixture
def soon() -> Deadline:
    """Time enough for everything that works."""
    return Deadline.after(20)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "artifacts" / "run-1")

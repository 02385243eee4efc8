"""Tests around a mishap: one during which it happens, and those that come later."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("redis")
def test_during_which_it_happens() -> None:
    Path("happening").touch()
    late = time.monotonic() + 120
    while not Path("happened").exists():
        assert time.monotonic() < late, "nothing happened"
        time.sleep(0.05)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.kindinfra("redis")
def test_later(number: int) -> None:
    assert number >= 0


@pytest.mark.parametrize("number", range(24))
@pytest.mark.kindinfra("web", "redis")
def test_shared(kindinfra: Stack, number: int) -> None:
    """One of them takes its worker along."""
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(f"seen-{number}").write_text(f"{kindinfra.url('web')} {kindinfra.endpoint('redis').port}")
    time.sleep(0.2)

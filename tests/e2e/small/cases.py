"""The tests of the small project; named so that the outer run does not collect them."""

from __future__ import annotations

import time
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("web")
def test_web_answers(kindinfra: Stack) -> None:
    with urllib.request.urlopen(kindinfra.url("web"), timeout=10) as answer:  # noqa: S310 - ours
        assert answer.read() == b"hello\n"


@pytest.mark.kindinfra("redis")
def test_redis_has_an_endpoint(kindinfra: Stack) -> None:
    assert kindinfra.endpoint("redis").port


@pytest.mark.kindinfra("redis")
def test_slow() -> None:
    """Something to interrupt; asked for by name only."""
    time.sleep(60)


def test_needs_nothing() -> None:
    assert True

"""Some of the services' code is executed by these tests, and some is not."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


def got(kindinfra: Stack, service: str, path: str) -> str:
    with urlopen(f"{kindinfra.url(service)}{path}", timeout=5) as response:  # noqa: S310 - our own URL
        text: str = response.read().decode()
        return text.strip()


@pytest.mark.kindinfra("greeter")
def test_it_greets_in_german(kindinfra: Stack) -> None:
    assert got(kindinfra, "greeter", "/de") == "Guten Tag"


@pytest.mark.kindinfra("counter")
def test_it_counts(kindinfra: Stack) -> None:
    assert got(kindinfra, "counter", "/add") == "1"

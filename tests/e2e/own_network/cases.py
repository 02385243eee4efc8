"""What works in a cluster whose network a service brought."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("web")
def test_a_pod_answers(kindinfra: Stack) -> None:
    with urlopen(kindinfra.url("web"), timeout=10) as answer:  # noqa: S310 - ours
        assert answer.status == 200

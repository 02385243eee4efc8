"""Every service with a door to the outside says that it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import wire

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_is_alive(kindinfra: Stack) -> None:
    answer = wire.get(f"{kindinfra.url('aianalysis', 'health')}/healthz")

    assert (answer.status, answer.text) == (200, "ok\n")


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_is_ready(kindinfra: Stack) -> None:
    answer = wire.get(f"{kindinfra.url('aianalysis', 'health')}/readyz")

    assert (answer.status, answer.text) == (200, "ok\n")


@pytest.mark.kindinfra("holmesgpt-api")
def test_holmesgpt_api_is_healthy(kindinfra: Stack) -> None:
    answer = wire.get(f"{kindinfra.url('holmesgpt-api')}/health")

    assert (answer.status, answer.json) == (200, {"status": "healthy"})


@pytest.mark.kindinfra("datastorage")
def test_datastorage_has_both_its_stores(kindinfra: Stack) -> None:
    """Redis may be a little later than DataStorage, which starts without it."""
    health = wire.eventually(
        lambda: wire.get(f"{kindinfra.url('datastorage')}/health").json,
        lambda seen: seen["status"] == "healthy",
    )

    assert health == {"status": "healthy", "postgres": True, "redis": True}

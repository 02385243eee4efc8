"""Every service with a door to the outside says that it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Http, Stack


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_is_alive(kindinfra_http: Http) -> None:
    answer = kindinfra_http("aianalysis", "health").get("/healthz")

    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.kindinfra("aianalysis")
def test_the_controller_is_ready(kindinfra_http: Http) -> None:
    answer = kindinfra_http("aianalysis", "health").get("/readyz")

    assert (answer.status_code, answer.text) == (200, "ok\n")


@pytest.mark.kindinfra("holmesgpt-api")
def test_holmesgpt_api_is_healthy(kindinfra_http: Http) -> None:
    answer = kindinfra_http("holmesgpt-api").get("/health")

    assert (answer.status_code, answer.json()) == (200, {"status": "healthy"})


@pytest.mark.kindinfra("datastorage")
def test_datastorage_has_both_its_stores(kindinfra: Stack, kindinfra_http: Http) -> None:
    """Redis may be a little later than DataStorage, which starts without it."""

    def look() -> None:
        health = kindinfra_http("datastorage").get("/health").json()
        assert health == {"status": "healthy", "postgres": True, "redis": True}

    kindinfra.eventually(look, timeout=10)

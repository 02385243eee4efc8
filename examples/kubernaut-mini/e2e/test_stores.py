"""PostgreSQL and Redis, spoken to in their own protocol and by their own client.

These tests need one service each: they run while the images of the others are still being built.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Endpoint, Stack

_PROTOCOL_3 = 196608
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


def first_byte(endpoint: Endpoint, sent: bytes) -> bytes:
    with socket.create_connection((endpoint.host, endpoint.port), timeout=10) as connection:
        connection.sendall(sent)
        return connection.recv(1)


@pytest.mark.kindinfra("postgres")
def test_postgresql_says_whether_it_does_tls(kindinfra: Stack) -> None:
    answer = first_byte(kindinfra.endpoint("postgres"), _SSL_REQUEST)

    assert answer in {b"S", b"N"}


@pytest.mark.kindinfra("postgres")
def test_postgresql_asks_who_wants_its_database(kindinfra: Stack) -> None:
    """The answer to a start-up message is a request for a password (R), not an error (E)."""
    body = struct.pack("!I", _PROTOCOL_3) + b"user\0slm_user\0database\0action_history\0\0"
    message = struct.pack("!I", len(body) + 4) + body

    assert first_byte(kindinfra.endpoint("postgres"), message) == b"R"


@pytest.mark.kindinfra("redis")
def test_redis_answers(kindinfra: Stack) -> None:
    assert kindinfra.exec("redis", ["redis-cli", "PING"]).stdout == "PONG\n"


@pytest.mark.kindinfra("redis")
def test_redis_keeps_what_it_is_given(kindinfra: Stack, correlation_id: str) -> None:
    kindinfra.exec("redis", ["redis-cli", "SET", correlation_id, "kept", "EX", "60"], check=True)

    assert kindinfra.exec("redis", ["redis-cli", "GET", correlation_id]).stdout == "kept\n"


@pytest.mark.kindinfra("migrations")
def test_the_migrations_are_applied_once_and_for_all(kindinfra: Stack) -> None:
    job = kindinfra.batch.read_namespaced_job_status("datastorage-migrations", kindinfra.namespace)

    assert job.status is not None
    assert job.status.succeeded == 1

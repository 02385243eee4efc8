"""PostgreSQL and Redis, spoken to in their own protocols and with nothing but sockets.

These tests need one service each: they run while the images of the others are still being built.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
import wire
from kubernetes.client import BatchV1Api

if TYPE_CHECKING:
    from pytest_kindinfra import Stack

_PROTOCOL_3 = 196608
_SSL_REQUEST = struct.pack("!II", 8, 80877103)


@pytest.mark.kindinfra("postgres")
def test_postgresql_says_whether_it_does_tls(kindinfra: Stack) -> None:
    answer = wire.exchange(kindinfra.endpoint("postgres"), _SSL_REQUEST, size=1)

    assert answer in {b"S", b"N"}


@pytest.mark.kindinfra("postgres")
def test_postgresql_asks_who_wants_its_database(kindinfra: Stack) -> None:
    """The answer to a start-up message is a request for a password (R), not an error (E)."""
    body = struct.pack("!I", _PROTOCOL_3) + b"user\0slm_user\0database\0action_history\0\0"
    message = struct.pack("!I", len(body) + 4) + body

    assert wire.exchange(kindinfra.endpoint("postgres"), message, size=1) == b"R"


@pytest.mark.kindinfra("redis")
def test_redis_answers(kindinfra: Stack) -> None:
    assert wire.exchange(kindinfra.endpoint("redis"), b"PING\r\n", size=7) == b"+PONG\r\n"


@pytest.mark.kindinfra("redis")
def test_redis_keeps_what_it_is_given(kindinfra: Stack, correlation_id: str) -> None:
    sent = f"SET {correlation_id} kept EX 60\r\nGET {correlation_id}\r\n".encode()
    wanted = b"+OK\r\n$4\r\nkept\r\n"

    assert wire.exchange(kindinfra.endpoint("redis"), sent, size=len(wanted)) == wanted


@pytest.mark.kindinfra("migrations")
def test_the_migrations_are_applied_once_and_for_all(kindinfra: Stack) -> None:
    job = BatchV1Api(kindinfra.kube).read_namespaced_job_status(
        "datastorage-migrations", kindinfra.namespace
    )

    assert job.status is not None
    assert job.status.succeeded == 1

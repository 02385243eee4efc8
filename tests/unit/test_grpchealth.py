"""A gRPC server is asked for its health; one that answers without telling it is there as well."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import NotReadyError
from pytest_kindinfra.model import EndpointSpec, Service
from pytest_kindinfra.system.grpc import check_health, missing_package
from tests.fake_grpc import SERVES, Says, grpc_server

if TYPE_CHECKING:
    from typing import Any

NO_SENSE = Says(raw=bytes(9))  # data of no stream
HTTP_1 = Says(raw=b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_the_whole_server_is_asked() -> None:
    asked: list[dict[str, str]] = []
    with grpc_server(SERVES, asked=asked) as port:
        check_health(("127.0.0.1", port), timeout=5)

    assert asked == [
        {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/grpc.health.v1.Health/Check",
            ":authority": f"127.0.0.1:{port}",
            "content-type": "application/grpc",
            "te": "trailers",
        }
    ]


@pytest.mark.parametrize("code", [7, 12, 16])
def test_a_server_that_tells_no_health_is_there(code: int) -> None:
    with grpc_server(Says(code=code)) as port:
        check_health(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize(
    ("says", "lack"),
    [
        (Says(b"\x08\x02"), "its health is NOT_SERVING"),
        (Says(b""), "its health is UNKNOWN"),
        (Says(b"\x08\x09"), "its health is 9"),
        (Says(code=5, more={"grpc-message": "unknown service"}),
         "gRPC status NOT_FOUND: unknown service"),
        (Says(code=14), "gRPC status UNAVAILABLE"),
        (Says(code=77), "gRPC status 77"),
        (Says(code=None, more={"grpc-status": "good"}), "gRPC status UNKNOWN"),
        (Says(status=502, code=None), "HTTP status 502"),
        (Says(b"", code=None, more={"x": "y"}), "it answers, but not in gRPC"),
        (HTTP_1, "it answers in HTTP/1, not in gRPC"),
        (NO_SENSE, "it speaks no HTTP/2"),
    ],
)  # fmt: skip
def test_anything_else_is_told(says: Says, lack: str) -> None:
    with grpc_server(says) as port, pytest.raises(NotReadyError) as caught:
        check_health(("127.0.0.1", port), timeout=5)

    assert str(caught.value).partition(": Received")[0] == lack


def test_a_server_that_ends_the_connection_is_told() -> None:
    closes = Says(raw=bytes.fromhex("000000040000000000"))  # its settings, and no more
    with grpc_server(closes) as port, pytest.raises(NotReadyError) as caught:
        check_health(("127.0.0.1", port), timeout=5)

    assert str(caught.value) == "the connection was closed before an answer"


def test_without_the_package_each_grpc_endpoint_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specs: Any = [EndpointSpec(name="rpc", port=1, scheme="grpc"), EndpointSpec(name="a", port=2)]
    services = [Service(name="api", endpoints=tuple(specs))]
    assert list(missing_package(services)) == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    [told] = missing_package(services)
    assert told == (
        '[services.api.endpoints.rpc] has scheme "grpc", for which the package h2 is missing: '
        'pip install "pytest-kindinfra[grpc]", or set scheme = "tcp"'
    )

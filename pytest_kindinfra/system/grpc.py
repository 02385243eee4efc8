"""Asks a gRPC server for its health: `grpc.health.v1.Health/Check`, over HTTP/2 without TLS.

A small client is enough for one call, so this takes `h2` (the extra `grpc`) rather than grpcio.
It must not know what is asked, nor why.
"""

from __future__ import annotations

import importlib.util
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.model import Service


WHOLE_SERVER = b"\0\0\0\0\0"
"""A message of length 0: the request that names no service, and so means all of them."""


SERVING = 1


STATUSES = {0: "UNKNOWN", SERVING: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


OK, UNKNOWN = 0, 2


REFUSING = frozenset({7, 12, 16})
"""Answers of a server that runs, but has no health service or refuses unknown clients:
PERMISSION_DENIED, UNIMPLEMENTED, UNAUTHENTICATED."""


CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
    *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"),
    *("ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
    "UNAUTHENTICATED",
)


_HEAD = 5
"""Bytes before a gRPC message: whether it is compressed, and its length."""


_STATUS_FIELD = 0x08
"""Field 1 of `HealthCheckResponse`, a varint."""


def missing_package(services: Iterable[Service]) -> Iterator[str]:
    """Yield a sentence for each grpc endpoint that cannot be asked, since `h2` is missing."""
    if importlib.util.find_spec("h2"):
        return
    for service in services:
        for spec in service.endpoints:
            if spec.scheme == "grpc":
                yield (
                    f'[services.{service.name}.endpoints.{spec.name}] has scheme "grpc", for which '
                    'the package h2 is missing: pip install "pytest-kindinfra[grpc]", or set '
                    'scheme = "tcp"'
                )


def check_health(address: tuple[str, int], *, timeout: float) -> None:
    """Return when the server at `address` says that it serves, or answers without saying it.

    Raises:
        NotReadyError: It says something else, or what it says is no gRPC.
        OSError: It does not answer.
    """
    from h2.exceptions import ProtocolError

    with socket.create_connection(address, timeout=timeout) as connection:
        connection.settimeout(timeout)
        host, port = address
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            answer = _call(connection, authority)
        except ProtocolError as error:
            msg = f"it speaks no HTTP/2: {error}"
            raise NotReadyError(msg) from error
    if lack := answer.lack():
        raise NotReadyError(lack)


@dataclass(slots=True)
class _Answer:
    """What came back: headers and trailers together, and the bytes between them."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    ended: str = ""

    def lack(self) -> str:
        """Say why the server is not ready; nothing if it is."""
        if self.headers.get(":status") != "200":
            return f"HTTP status {self.headers.get(':status', 'missing')}"
        if "grpc-status" not in self.headers:
            return "it answers, but not in gRPC"
        text = self.headers["grpc-status"]
        code = int(text) if text.isdigit() else UNKNOWN
        if code in REFUSING:
            return ""
        if code != OK:
            message = self.headers.get("grpc-message", "")
            name = CODES[code] if code < len(CODES) else str(code)
            return f"gRPC status {name}" + (f": {message}" if message else "")
        status = self._health()
        return "" if status == SERVING else f"its health is {STATUSES.get(status, status)}"

    def _health(self) -> int:
        """Return field 1 of the message; 0 if it is left out, as protobuf does with 0."""
        message = bytes(self.body[_HEAD:])
        return message[1] if len(message) > 1 and message[0] == _STATUS_FIELD else 0


def _call(connection: socket.socket, authority: str) -> _Answer:
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    http.initiate_connection()
    stream = http.get_next_available_stream_id()
    head = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    http.send_headers(stream, list(head.items()))
    http.send_data(stream, WHOLE_SERVER, end_stream=True)
    answer = _Answer()
    while not answer.ended:
        connection.sendall(http.data_to_send())
        received = connection.recv(65536)
        if not received:
            msg = "the connection was closed before an answer"
            raise NotReadyError(msg)
        if received.startswith(b"HTTP/1"):
            msg = "it answers in HTTP/1, not in gRPC"
            raise NotReadyError(msg)
        for event in http.receive_data(received):
            _take(event, answer)
    return answer


def _take(event: Any, answer: _Answer) -> None:
    """Keep what of an event belongs to the answer."""
    from h2 import events

    if isinstance(event, events.ResponseReceived | events.TrailersReceived):
        answer.headers |= {str(name): str(value) for name, value in event.headers or ()}
    elif isinstance(event, events.DataReceived):
        answer.body += event.data or b""
    elif isinstance(event, events.StreamEnded):
        answer.ended = "yes"
    elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
        msg = f"the call was ended by the server: {event.error_code!s}"
        raise NotReadyError(msg)

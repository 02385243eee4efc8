"""A gRPC server with one answer after the other; it stays at the last one."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Says:
    """An answer to a call.

    Attributes:
        message: The protobuf message, of the status field; None sends trailers alone.
        code: gRPC's status; None sends none.
        more: Further trailers.
        status: HTTP's.
        raw: Sent instead of everything else.
    """

    message: bytes | None = None
    code: int | None = 0
    more: dict[str, str] = field(default_factory=dict)
    status: int = 200
    raw: bytes = b""


SERVES = Says(b"\x08\x01")
NOT_YET = Says(b"\x08\x02")


@contextmanager
def grpc_server(*answers: Says, asked: list[dict[str, str]] | None = None) -> Iterator[int]:
    """Serve the answers, a connection each, and give the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        left = list(answers)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                _answer(connection, left.pop(0) if len(left) > 1 else left[0], asked)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def _answer(connection: socket.socket, says: Says, asked: list[dict[str, str]] | None) -> None:
    if says.raw:
        connection.recv(65536)
        connection.sendall(says.raw)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # what is left unread would make a reset of the end
            pass
        return
    http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    http.initiate_connection()
    connection.sendall(http.data_to_send())
    while data := connection.recv(65536):
        for event in http.receive_data(data):
            if isinstance(event, RequestReceived) and asked is not None:
                asked.append({str(name): str(value) for name, value in event.headers or ()})
            if isinstance(event, StreamEnded):
                _respond(http, event.stream_id or 1, says)
        connection.sendall(http.data_to_send())


def _respond(http: H2Connection, stream: int, says: Says) -> None:
    head = [(":status", str(says.status)), ("content-type", "application/grpc")]
    trailers = list(says.more.items())
    if says.code is not None:
        trailers.insert(0, ("grpc-status", str(says.code)))
    if says.message is None:
        http.send_headers(stream, head + trailers, end_stream=True)
        return
    http.send_headers(stream, head)
    http.send_data(stream, b"\0" + len(says.message).to_bytes(4) + says.message)
    http.send_headers(stream, trailers, end_stream=True)

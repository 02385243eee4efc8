"""The kubelet's side of a port-forward over a websocket: two channels, data and errors."""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_DATA, _ERROR = b"\x00", b"\x01"
_SHORT, _LONG = 126, 127


def serve_portforward(handler: BaseHTTPRequestHandler, port: int, target: int | None) -> None:
    """Upgrade the request and lead it to a port of this host; without one refuse as a pod does."""
    key = handler.headers["Sec-WebSocket-Key"]
    accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest())  # noqa: S324 - RFC 6455
    handler.connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )
    number = struct.pack("<H", port)
    with suppress(OSError):
        for channel in (_DATA, _ERROR):
            handler.connection.sendall(_frame(channel + number))
        if target is None:
            handler.connection.sendall(_frame(_ERROR + f"port {port}: connection refused".encode()))
            return
        with socket.create_connection(("127.0.0.1", target)) as pod:
            _relay(handler, pod)
    handler.close_connection = True


def _relay(handler: BaseHTTPRequestHandler, pod: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([handler.connection, pod], [], [], 10)
        if pod in ready:
            data = pod.recv(1 << 16)
            if not data:
                handler.connection.sendall(b"\x88\x00")  # close
                return
            handler.connection.sendall(_frame(_DATA + data))
        if handler.connection in ready:
            payload = _read_frame(handler.connection)
            if payload is None:
                return
            pod.sendall(payload[1:])


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < _SHORT:
        return bytes([0x82, size]) + payload
    if size < 1 << 16:
        return bytes([0x82, _SHORT]) + struct.pack(">H", size) + payload
    return bytes([0x82, _LONG]) + struct.pack(">Q", size) + payload


def _read_frame(connection: socket.socket) -> bytes | None:
    """Return the payload of the next frame, None when the client has gone."""
    head = _exactly(connection, 2)
    if not head or head[0] & 0x0F == 0x8:
        return None
    size = head[1] & 0x7F
    if size == _SHORT:
        (size,) = struct.unpack(">H", _exactly(connection, 2))
    elif size == _LONG:
        (size,) = struct.unpack(">Q", _exactly(connection, 8))
    mask = _exactly(connection, 4)
    data = _exactly(connection, size)
    return bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := connection.recv(count - len(data))):
        data += part
    return data

"""The kubelet's side of a command in a container, over a websocket of version 5."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from tests.fake_portforward import _GUID, _frame, _read_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

    Answer = tuple[int, str, str]
    """An exit code, and what is printed on both streams; below 0 nothing more is said."""


def serve_exec(
    handler: BaseHTTPRequestHandler,
    command: list[str],
    answer: Callable[[list[str], bytes], Answer],
    *,
    reads: bool,
) -> None:
    """Upgrade the request, read standard input to its end, and say what the answer is."""
    key = handler.headers["Sec-WebSocket-Key"]
    accept = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest())  # noqa: S324 - RFC 6455
    handler.connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: v5.channel.k8s.io\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )
    handler.close_connection = True
    with suppress(OSError):
        code, stdout, stderr = answer(command, _stdin(handler) if reads else b"")
        for channel, text in ((b"\x01", stdout), (b"\x02", stderr)):
            if text:
                handler.connection.sendall(_frame(channel + text.encode()))
        if code >= 0:
            handler.connection.sendall(_frame(b"\x03" + json.dumps(_status(code)).encode()))
            handler.connection.sendall(b"\x88\x00")
        else:
            handler.connection.recv(1)


def _stdin(handler: BaseHTTPRequestHandler) -> bytes:
    read = b""
    while (frame := _read_frame(handler.connection)) and frame[0] != 0xFF:
        read += frame[1:]
    return read


def _status(code: int) -> dict[str, object]:
    if not code:
        return {"status": "Success"}
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}

"""The kubelet's side of a command in a container, over a websocket: v5.channel.k8s.io."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.fake_portforward import frame, read_frame, upgrade

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.server import BaseHTTPRequestHandler

STDIN, STDOUT, STDERR, STATUS = b"\x00", b"\x01", b"\x02", b"\x03"
CLOSE = 255


def serve_exec(
    handler: BaseHTTPRequestHandler,
    query: dict[str, list[str]],
    runs: Callable[[list[str], bytes], tuple[int | None, bytes, bytes]],
) -> None:
    """Upgrade the request, read standard input to its end, and answer as `runs` says."""
    upgrade(handler, "v5.channel.k8s.io")
    given = _standard_input(handler) if "stdin" in query else b""
    exit_code, out, err = runs(query["command"], given)
    with suppress(OSError):
        for channel, data in ((STDOUT, out), (STDERR, err)):
            if data:
                handler.connection.sendall(frame(channel + data))
        handler.connection.sendall(frame(STATUS + json.dumps(_status(exit_code)).encode()))
        handler.connection.sendall(b"\x88\x00")  # close
    handler.close_connection = True


def _standard_input(handler: BaseHTTPRequestHandler) -> bytes:
    given = b""
    while (payload := read_frame(handler.connection)) and payload[0] != CLOSE:
        given += payload[1:]
    return given


def _status(exit_code: int | None) -> dict[str, Any]:
    if exit_code == 0:
        return {"status": "Success"}
    if exit_code is None:
        return {"status": "Failure", "reason": "InternalError", "message": "no such file"}
    causes = [{"reason": "ExitCode", "message": str(exit_code)}]
    return {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}

"""Run a command in a container, by the API server's `exec` over a websocket."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kindinfra.errors import ClusterError, KindInfraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.kube.client import Transport


PROTOCOLS = "v5.channel.k8s.io, v4.channel.k8s.io"
"""v5 (Kubernetes 1.30) can say that standard input has ended; older servers choose v4."""


_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255


_CHUNK = 1 << 15


class Reads(Protocol):
    """Gives bytes, none at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, as soon as there are some."""
        ...


class Writes(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""
        ...

    def flush(self) -> object:
        """Have it seen."""
        ...


@dataclass(frozen=True, slots=True)
class Streams:
    """Where the command's streams go to and come from; without `stdin` it has none."""

    stdout: Writes
    stderr: Writes
    stdin: Reads | None = None


def run_in_container(
    transport: Transport, path: str, container: str, command: Sequence[str], streams: Streams
) -> int:
    """Run a command to its end and return its exit code.

    Args:
        transport: Of the cluster.
        path: The pod's, as for `GET`.
        container: Which of its containers.
        command: The words, without a shell.
        streams: Get the output as it comes.

    Raises:
        ClusterError: The API server refused it, or the connection broke off.
        KindInfraError: The container could not start the command.
    """
    query = [("container", container), ("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if streams.stdin else []
    query += [("command", word) for word in command]
    websocket = transport.websocket(f"{path}/exec", query, protocol=PROTOCOLS)
    try:
        if streams.stdin:
            threading.Thread(target=_send, args=(websocket, streams.stdin), daemon=True).start()
        return _exit_code(_relay(websocket, streams), command)
    finally:
        with suppress(Exception):
            websocket.shutdown()  # close() would wait three seconds for the other side's word


def _relay(websocket: Any, streams: Streams) -> dict[str, Any]:
    """Pass the output on, and return the status with which the command ended."""
    outputs = {_STDOUT: streams.stdout, _STDERR: streams.stderr}
    while True:
        try:
            frame = websocket.recv()
        except Exception as error:
            # Those of websocket-client have no common root with a name that all releases have.
            msg = f"the connection to the command broke off: {error}"
            raise ClusterError(msg) from error
        data = frame.encode() if isinstance(frame, str) else bytes(frame)
        if not data:
            msg = "the connection to the command ended without its exit code"
            raise ClusterError(msg)
        if data[0] == _STATUS:
            status: dict[str, Any] = json.loads(data[1:])
            return status
        if (output := outputs.get(data[0])) and data[1:]:
            output.write(data[1:])
            output.flush()


def _send(websocket: Any, source: Reads) -> None:
    """Send standard input to its end; a command that ends first does not want the rest."""
    with suppress(Exception):
        while data := source.read(_CHUNK):
            websocket.send_binary(bytes([_STDIN]) + data)
        if websocket.getsubprotocol() != "v4.channel.k8s.io":
            websocket.send_binary(bytes([_CLOSE, _STDIN]))


def _exit_code(status: dict[str, Any], command: Sequence[str]) -> int:
    """Return the exit code that a status means.

    Raises:
        KindInfraError: The command was not started.
    """
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    for cause in causes:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"])
    msg = f'"{command[0]}" could not be started: {status.get("message") or status}'
    raise KindInfraError(msg)

"""Run a command in a container, by the API server's `exec` over a websocket."""

from __future__ import annotations

import json
import math
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kindinfra.errors import ClusterError, KindInfraError
from pytest_kindinfra.kube.execsocket import (
    BEFORE_END,
    CHUNK,
    ExecChannel,
    exit_code_of,
    open_exec,
)
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.kube.client import Transport
    from pytest_kindinfra.kube.execsocket import Container


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
    transport: Transport, where: Container, command: Sequence[str], streams: Streams
) -> int:
    """Run a command to its end and return its exit code.

    Args:
        transport: Of the cluster.
        where: The container.
        command: The words, without a shell.
        streams: Get the output as it comes.

    Raises:
        ClusterError: The API server refused it, or the connection broke off.
        NotReadyError: It gets standard input, whose end this API server cannot pass on.
        KindInfraError: The container could not start the command.
    """
    websocket = open_exec(transport, where, command, stdin=streams.stdin is not None)
    try:
        if streams.stdin:
            threading.Thread(target=_send, args=(websocket, streams.stdin), daemon=True).start()
        return _exit_code(_relay(websocket, streams), command)
    finally:
        with suppress(Exception):
            websocket.shutdown()  # close() would wait three seconds for the other side's word


def _relay(websocket: Any, streams: Streams) -> dict[str, Any]:
    """Pass the output on, and return the status with which the command ended."""
    outputs: dict[int, Writes] = {
        ExecChannel.STDOUT: streams.stdout,
        ExecChannel.STDERR: streams.stderr,
    }
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
        if data[0] == ExecChannel.STATUS:
            status: dict[str, Any] = json.loads(data[1:])
            return status
        if (output := outputs.get(data[0])) and data[1:]:
            output.write(data[1:])
            output.flush()


def _send(websocket: Any, source: Reads) -> None:
    """Send standard input to its end; a command that ends first does not want the rest."""
    with suppress(Exception):
        while data := source.read(CHUNK):
            websocket.send_binary(bytes([ExecChannel.STDIN]) + data)
        Deadline(math.inf).pause(BEFORE_END)
        websocket.send_binary(bytes([ExecChannel.CLOSE, ExecChannel.STDIN]))


def _exit_code(status: dict[str, Any], command: Sequence[str]) -> int:
    """Return the exit code that a status means.

    Raises:
        KindInfraError: The command was not started.
    """
    if (code := exit_code_of(status)) is not None:
        return code
    msg = f'"{command[0]}" could not be started: {status.get("message") or status}'
    raise KindInfraError(msg)

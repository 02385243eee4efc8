"""The websocket to a command in a container: how it is opened, and what its frames mean."""

from __future__ import annotations

from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.errors import NotReadyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindinfra.kube.client import Transport


CHUNK = 1 << 15
"""Bytes of standard input in one frame."""


_PROTOCOLS = "v5.channel.k8s.io,v4.channel.k8s.io"
"""The fifth version can say that standard input is at its end; servers have it since 1.30."""


BEFORE_END = 0.1
"""Seconds between the last byte of standard input and its end. containerd closes the input of a
command at once, also if what came before has not reached the command. A short input was lost in a
kind node of a busy machine (containerd/containerd#12734, open)."""


class ExecChannel(IntEnum):
    """What a frame holds, by its first byte."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    CLOSE = 255


class Container(NamedTuple):
    """In which container a command is run."""

    namespace: str
    pod: str
    container: str


def open_exec(
    transport: Transport, where: Container, command: Sequence[str], *, stdin: bool
) -> Any:
    """Start a command and return the websocket to it; the caller shuts it down.

    Args:
        transport: The cluster.
        where: The container.
        command: Its words; no shell is involved.
        stdin: Whether it gets standard input.

    Raises:
        ClusterError: The API server does not answer, or refuses.
        NotReadyError: It gets standard input, whose end this API server cannot pass on.
    """
    query = [("container", where.container)] if where.container else []
    query += [("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin else []
    query += [("command", word) for word in command]
    path = f"/api/v1/namespaces/{where.namespace}/pods/{where.pod}/exec"
    websocket = transport.websocket(path, query, protocol=_PROTOCOLS)
    if stdin and not _can_close(websocket):
        with suppress(Exception):  # of whatever websocket-client makes of a dead connection
            websocket.shutdown()
        msg = "input needs a Kubernetes 1.30 or later: older ones cannot end standard input"
        raise NotReadyError(msg)
    return websocket


def exit_code_of(status: Mapping[str, Any]) -> int | None:
    """Return the exit code that a command's status means; None if it was not started."""
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    codes = [one.get("message") for one in causes if one.get("reason") == "ExitCode"]
    return int(codes[0]) if codes else None


def _can_close(websocket: Any) -> bool:
    # websocket-client's own getsubprotocol() knows only the protocols of its argument.
    headers = websocket.getheaders() or {}
    chosen = {name.lower(): value for name, value in headers.items()}
    return "v5" in str(chosen.get("sec-websocket-protocol", ""))

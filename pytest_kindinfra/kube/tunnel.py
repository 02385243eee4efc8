"""One connection to a port of a pod, through the API server.

The `kubernetes` client has a class for it, but what goes wrong in there is raised in a thread of
its own that nobody can join; so only its websocket is used. Two channels: 0 holds data, 1 errors.
"""

from __future__ import annotations

import select
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pytest_kindinfra.kube.client import Transport

PROTOCOL = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_PORT_NUMBER = 2
"""The first frame of each channel names the port, in so many bytes."""
_CHUNK = 1 << 16
_FULL = 1 << 20
_LINGER = 1.0
"""Seconds of silence after the client's end of file before it counts as gone: a websocket cannot
be closed by half, and the answer to what was sent may still come."""
_WAITING = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Tunnel:
    """An open way to a pod's port; `close` it."""

    def __init__(self, transport: Transport, *, namespace: str, pod: str, port: int) -> None:
        """Open it.

        Raises:
            ClusterError: The API server does not answer, or there is no such pod.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        self._websocket = transport.websocket(path, {"ports": port}, protocol=PROTOCOL)
        self._socket: Any = self._websocket.sock
        self._socket.setblocking(False)  # noqa: FBT003 - the socket module's word
        self._named: set[int] = set()
        self._to_pod = b""
        self._from_pod = b""
        self.ended = False
        self.error = ""

    def close(self) -> None:
        """Close it; twice does no harm."""
        with suppress(Exception):  # of whatever websocket-client makes of a dead connection
            self._websocket.shutdown()

    def refusal(self, seconds: float, *, ending: int) -> str:
        """Return why the far end hung up within so many seconds; nothing if it holds the line.

        Args:
            seconds: How long to listen.
            ending: A descriptor that can be read once all ends.
        """
        while not (self.ended or self._from_pod):
            if self._readable_now():
                self._receive()
                continue
            readable, _, _ = select.select([self._socket, ending], [], [], seconds)
            if self._socket not in readable:
                return ""
            self._receive()
        return "" if self._from_pod else self.error or "the connection was closed at once"

    def relay(self, client: socket.socket, *, ending: int) -> None:
        """Carry bytes both ways until either side hangs up.

        Args:
            client: Who wants to talk to the pod.
            ending: A descriptor that can be read once all ends.

        Raises:
            ClusterError: The far end said why it hung up.
        """
        client.setblocking(False)  # noqa: FBT003 - the socket module's word
        open_client = True
        while not self.ended or self._from_pod:
            if not self._readable_now():
                ready = self._await(client, ending, open_client=open_client)
                if ready is None:
                    return
                if client in ready[0]:
                    open_client = self._take(client)
            self._pump(client)
        if self.error:
            raise ClusterError(self.error)

    def _await(
        self, client: socket.socket, ending: int, *, open_client: bool
    ) -> tuple[list[Any], list[Any], list[Any]] | None:
        """Wait until something can be carried; return None if nothing is to come any more."""
        readers: list[Any] = [ending]
        if not self.ended and len(self._from_pod) < _FULL:
            readers.append(self._socket)
        if open_client and len(self._to_pod) < _FULL:
            readers.append(client)
        writers: list[Any] = [client] if self._from_pod else []
        writers += [self._socket] if self._to_pod and not self.ended else []
        ready = select.select(readers, writers, [], None if open_client else _LINGER)
        return None if ending in ready[0] or not any(ready) else ready

    def _take(self, client: socket.socket) -> bool:
        """Take what the client sent; return whether it may send more."""
        data = client.recv(_CHUNK)
        if data:
            self._to_pod += _frame(bytes([_DATA]) + data)
        return bool(data)

    def _pump(self, client: socket.socket) -> None:
        """Carry what is there as far as it goes without waiting."""
        if not self.ended and len(self._from_pod) < _FULL:
            self._receive()
        if self._from_pod:
            with suppress(*_WAITING):
                self._from_pod = self._from_pod[client.send(self._from_pod) :]
        if self._to_pod and not self.ended:
            with suppress(*_WAITING):
                self._to_pod = self._to_pod[self._socket.send(self._to_pod) :]

    def _readable_now(self) -> bool:
        """Whether TLS has decrypted bytes already, of which `select` knows nothing."""
        if self.ended or len(self._from_pod) >= _FULL:
            return False
        pending: Callable[[], int] | None = getattr(self._socket, "pending", None)
        return bool(pending and pending())

    def _receive(self) -> None:
        """Take one frame, if there is a whole one; parts of one are kept by the websocket."""
        from websocket import ABNF, WebSocketException, WebSocketTimeoutException

        try:
            code, frame = self._websocket.recv_data_frame(True)  # noqa: FBT003 - control frames too
        except (*_WAITING, WebSocketTimeoutException):
            return
        except (WebSocketException, OSError):
            self.ended = True
            return
        if code == ABNF.OPCODE_CLOSE:
            self.ended = True
        elif code in {ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT} and frame.data:
            self._sort(frame.data[0], bytes(frame.data[1:]))

    def _sort(self, channel: int, data: bytes) -> None:
        if channel not in self._named and len(data) == _PORT_NUMBER:
            self._named.add(channel)
        elif channel == _ERROR:
            self.error += data.decode(errors="replace")
            self.ended = True
        else:
            self._from_pod += data


def _frame(payload: bytes) -> bytes:
    from websocket import ABNF

    frame: bytes = ABNF.create_frame(payload, ABNF.OPCODE_BINARY).format()
    return frame

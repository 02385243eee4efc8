"""Forward ports of this host to pods, over a websocket.

They outlast restarts of the pods, since each connection goes to a pod that is ready then, and of
the API server, since a connection waits for it.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError
from pytest_kindinfra.kube.client import AWAY, ApiError, is_starting
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.system.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.kube.backends import Backend
    from pytest_kindinfra.kube.client import Transport


_PROTOCOL = "v4.channel.k8s.io"


_DATA, _ERROR = 0, 1


_PORT_NUMBER = 2
"""The first frame of each channel names the port, in so many bytes."""


_CHUNK = 1 << 16


_FULL = 1 << 20


_LINGER = 1.0
"""Seconds of silence after the client's end of file before it counts as gone: a websocket cannot
be closed by half, and the answer to what was sent may still come."""


_WAITING = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Tunnel:
    """An open way to a pod's port; `close` it."""

    def __init__(self, transport: Transport, *, namespace: str, pod: str, port: int) -> None:
        """Open it.

        Raises:
            ClusterError: The API server does not answer, or there is no such pod.
        """
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        self._websocket = transport.websocket(path, {"ports": port}, protocol=_PROTOCOL)
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
            client: The connection of the program that talks to the pod.
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
        """Carry the received bytes as far as it goes without waiting."""
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


HOST = "127.0.0.1"


_WAITING_CONNECTIONS = 64


_TRIES = 3
"""A pod may go between the moment at which it is picked and the connection to it."""


_AWAY_EVERY = 0.2
"""Seconds between tries while the API server does not answer."""


_OPEN_SECONDS = 0.5
_FAR_END_EVERY = 0.2


_END_SECONDS = 5.0


_MOMENT = 0.01


class Forwards:
    """All forwarded ports of one run; safe from several threads."""

    def __init__(self, kubeconfig: Path) -> None:
        self._reader = Reader(kubeconfig)
        self._ending, self._end = os.pipe()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._closed = False

    def open(self, backend: Backend, *, port: int | None, name: str) -> Forward:
        """Return a forward on a port of 127.0.0.1.

        Args:
            backend: Where connections go.
            port: The port; None means one that is free.
            name: Of what, for the names of threads.

        Raises:
            ClusterError: The port is taken, or the run is over.
        """
        try:
            listener = socket.create_server((HOST, port or 0), backlog=_WAITING_CONNECTIONS)
        except OSError as error:
            why = os.strerror(error.errno or 0)
            msg = f"port {port} of {HOST} cannot be used for {name}: {why}"
            raise ClusterError(msg) from error
        listener.setblocking(False)  # noqa: FBT003 - the client may be gone again
        forward = Forward(self, backend, listener.getsockname()[1])
        if not self._start(listener, forward, name):
            listener.close()
            msg = "the run is over"
            raise ClusterError(msg)
        return forward

    def close(self) -> None:
        """End all connections and threads; twice does no harm.

        A thread that waits for an API server that does not answer any more is left to itself.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self._end)  # now the other end can be read, for everybody
            threads = list(self._threads)
        deadline = Deadline.after(_END_SECONDS)
        for thread in threads:
            thread.join(max(deadline.left, _MOMENT))
        if not any(thread.is_alive() for thread in threads):
            os.close(self._ending)
        self._reader.close()

    def reach(self, backend: Backend) -> _Tunnel:
        """Return a way to a ready pod.

        Raises:
            KindInfraError: There is none.
        """
        for further_tries in reversed(range(_TRIES)):
            found = backend.pick(self._reader.list_(backend.path, **backend.query))
            try:
                return _Tunnel(
                    self._reader.transport,
                    namespace=found.namespace,
                    pod=found.pod,
                    port=found.port,
                )
            except ClusterError:
                if not further_tries:
                    raise
        raise AssertionError  # pragma: no cover - the last try returns or raises

    @property
    def ending(self) -> int:
        """A descriptor that can be read once all ends."""
        return self._ending

    def ends_within(self, seconds: float) -> bool:
        """Wait, and return whether all ends meanwhile."""
        return bool(select.select([self._ending], [], [], seconds)[0])

    def _start(self, listener: socket.socket, forward: Forward, name: str) -> bool:
        thread = threading.Thread(
            target=self._listen,
            args=(listener, forward, name),
            name=f"kindinfra-{name}",
            daemon=True,
        )
        return self._run(thread)

    def _run(self, thread: threading.Thread) -> bool:
        """Start a thread that `close` waits for, unless it is too late."""
        with self._lock:
            if self._closed:
                return False
            self._threads = [one for one in self._threads if one.is_alive()]
            thread.start()
            self._threads.append(thread)
            return True

    def _listen(self, listener: socket.socket, forward: Forward, name: str) -> None:
        with listener:
            sources: list[Any] = [listener, self._ending]
            while self._ending not in select.select(sources, [], [])[0]:
                with suppress(OSError):
                    client, _ = listener.accept()
                    thread = threading.Thread(
                        target=forward.serve, args=(client,), name=f"kindinfra-{name}", daemon=True
                    )
                    if not self._run(thread):
                        client.close()


class Forward:
    """One forwarded port.

    Attributes:
        port: On 127.0.0.1.
    """

    def __init__(self, forwards: Forwards, backend: Backend, port: int) -> None:
        self.port = port
        self._forwards = forwards
        self._backend = backend

    def serve(self, client: socket.socket) -> None:
        """Carry one connection to its end; what goes wrong ends that connection alone."""
        with (
            suppress(KindInfraError, OSError),
            client,
            closing(self._reach_patiently()) as way,
        ):
            way.relay(client, ending=self._forwards.ending)

    def _reach_patiently(self) -> _Tunnel:
        """Return a way to a pod; wait for an API server that is away.

        Without a ready pod there is nothing to wait for: clients of a Service are refused too.

        Raises:
            KindInfraError: There is none, or the API server was away for too long.
        """
        deadline, away = Deadline.after(AWAY), False
        while True:
            try:
                return self._forwards.reach(self._backend)
            except ClusterError:
                away = True
                if deadline.passed or self._forwards.ends_within(_AWAY_EVERY):
                    raise
            except ApiError as error:
                late = not (away and is_starting(error)) or deadline.passed
                if late or self._forwards.ends_within(_AWAY_EVERY):
                    raise

    def check(self) -> None:
        """Return if the far end takes a connection, and holds it for a moment.

        That a connection to our own port was accepted says nothing of it.

        Raises:
            KindInfraError: It does not; says why.
        """
        with closing(self._forwards.reach(self._backend)) as tunnel:
            if why := tunnel.refusal(_OPEN_SECONDS, ending=self._forwards.ending):
                raise NotReadyError(why)

    def await_far_end(
        self, endpoint: str, *, meanwhile: Callable[[], object], deadline: Deadline
    ) -> None:
        """Wait until a pod takes connections: the forwarded port does so before.

        Args:
            endpoint: What the message calls it.
            meanwhile: Called after each failed try; what it raises ends the wait.
            deadline: When to give up.

        Raises:
            NotReadyError: No pod took a connection in time; says what the last try met.
        """
        last = ""

        def reached() -> bool:
            nonlocal last
            try:
                self.check()
            except KindInfraError as error:
                last = str(error)
                meanwhile()
                return False
            return True

        if not wait_until(reached, deadline, every=_FAR_END_EVERY):
            address = f"tcp://{HOST}:{self.port}"
            msg = f"{endpoint} did not answer{deadline.exceeded()}: {address}: {last}"
            raise NotReadyError(msg)

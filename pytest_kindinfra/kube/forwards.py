"""Ports of 127.0.0.1 that lead to pods, for clusters whose nodes this host has no way to.

Each connection finds a ready pod for itself, so a pod that is replaced needs no notice. All
threads end with `close`. It must not know what the pods serve.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.kube.tunnel import Tunnel
from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.kube.backend import Backend

HOST = "127.0.0.1"
_WAITING_CONNECTIONS = 64
_TRIES = 3
"""A pod may go between the moment at which it is picked and the connection to it."""
_HELD_OPEN = 0.5
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
            msg = f"port {port} of {HOST} cannot be had for {name}: {why}"
            raise ClusterError(msg) from error
        listener.setblocking(False)  # noqa: FBT003 - whoever knocked may be gone again
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

    def reach(self, backend: Backend) -> Tunnel:
        """Return a way to a ready pod.

        Raises:
            KindInfraError: There is none.
        """
        for further_tries in reversed(range(_TRIES)):
            found = backend.pick(self._reader.list_(backend.path, **backend.query))
            try:
                return Tunnel(
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
        forwards = self._forwards
        with (
            suppress(KindInfraError, OSError),
            client,
            closing(forwards.reach(self._backend)) as way,
        ):
            way.relay(client, ending=forwards.ending)

    def check(self) -> None:
        """Return if the far end takes a connection, and holds it for a moment.

        That a connection to our own port was accepted says nothing of it.

        Raises:
            KindInfraError: It does not; says why.
        """
        with closing(self._forwards.reach(self._backend)) as tunnel:
            if why := tunnel.refusal(_HELD_OPEN, ending=self._forwards.ending):
                raise NotReadyError(why)

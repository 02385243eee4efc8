"""Ask an endpoint from this host until it answers: over HTTP, TCP or gRPC.

It knows addresses and what to ask, and nothing of clusters.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import NotReadyError
from pytest_kindinfra.model import Endpoint, url_of
from pytest_kindinfra.system.grpc import check_health
from pytest_kindinfra.system.timeline import monotonic, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindinfra.model import EndpointSpec
    from pytest_kindinfra.system.timeline import Deadline


HOST = "127.0.0.1"
"""Never `localhost`, which may resolve to an address on which no process listens."""


_WEB = ("http", "https")


_EVERY = 0.05


_MEANWHILE_EVERY = 1.0


_ANSWER_WITHIN = 5.0


_OPEN_SECONDS = 0.1


_DIAL_WITHIN = 0.15
"""Seconds. A SYN that comes a moment before kube-proxy's rules is lost, and the system sends it
again only after a second; the engine's proxy would wait just so. Dialling again instead, endpoints
of ready pods answered after 0.3 s (median of 24) instead of 1.09."""


_REACHED_WITHIN = 1.0
"""Seconds for each of several addresses, some of which this host may have no route to."""


_WITHOUT_ROUTE = 1.5
"""Seconds until what is asked something is asked through the host port though the kind node does
not answer."""


def prove_endpoint(
    service: str,
    spec: EndpointSpec,
    *,
    host_port: int,
    host: str = HOST,
    node: tuple[str, int] | None,
    deadline: Deadline,
    virtual_host: str = "",
    meanwhile: Callable[[], object] = lambda: None,
) -> Endpoint:
    """Return the endpoint once it has answered.

    Args:
        service: The service's name.
        spec: The declared endpoint.
        host_port: The port of this host.
        host: The address of this host on which it is reached.
        node: The kind node's address and NodePort; None where the host has no route to it.
        deadline: When to give up.
        virtual_host: What a web request says in its header `Host`; empty means `host`.
        meanwhile: Called about once a second; may raise because waiting makes no sense.

    Raises:
        NotReadyError: It did not answer in time; says what the last try met.
        CancelledError: The run is ending.
    """
    last = _LastTry()
    ask_next = monotonic() + _MEANWHILE_EVERY
    no_route = monotonic() + _WITHOUT_ROUTE

    def answers() -> bool:
        try:
            if node and (not _is_asked(spec) or monotonic() < no_route):
                socket.create_connection(node, timeout=_DIAL_WITHIN).close()
            return _answers(spec, (host, host_port), virtual_host)
        except (OSError, http.client.HTTPException, NotReadyError) as error:
            last.error = error
        nonlocal ask_next
        if monotonic() >= ask_next:
            ask_next = monotonic() + _MEANWHILE_EVERY
            meanwhile()
        return False

    if not wait_until(answers, deadline, every=_EVERY):
        target = f"{url_of(spec.scheme, host, host_port)}{spec.path or ''}"
        limit = deadline.set_by_option()
        target += f" (Host: {virtual_host})" if virtual_host else ""
        msg = f'endpoint "{spec.name}" of "{service}" did not answer{limit}: {target}: {last.error}'
        raise NotReadyError(msg)
    return Endpoint(
        service=service,
        name=spec.name,
        scheme=spec.scheme,
        host=host,
        port=host_port,
        virtual_host=virtual_host,
    )


def first_reachable(
    hosts: Sequence[str],
    port: int,
    *,
    deadline: Deadline,
    meanwhile: Callable[[], object] = lambda: None,
) -> str:
    """Return the first of several hosts that takes a connection at a port.

    Args:
        hosts: Their addresses or names, the most likely one first.
        port: The port.
        deadline: When to give up.
        meanwhile: Called after each round of tries; may raise because waiting makes no sense.

    Raises:
        NotReadyError: None did in time; says what the last try at each of them met.
        CancelledError: The run is ending.
    """
    met = dict.fromkeys(hosts, "")

    def reached() -> str | None:
        for host in hosts:
            try:
                socket.create_connection((host, port), timeout=_REACHED_WITHIN).close()
            except OSError as error:
                met[host] = str(error)
            else:
                return host
        meanwhile()
        return None

    if (found := wait_until(reached, deadline, every=_EVERY)) is None:
        raise NotReadyError("; ".join(f"{host}: {why}" for host, why in met.items()))
    return found


def is_resolved(host: str) -> bool:
    """Whether this machine knows an address for a name."""
    try:
        return bool(socket.getaddrinfo(host, None))
    except (OSError, UnicodeError):  # the latter of a name that cannot be one
        return False


def takes_connections(address: tuple[str, int]) -> bool:
    """Whether a TCP connection to an address is taken at once."""
    try:
        socket.create_connection(address, timeout=_DIAL_WITHIN).close()
    except OSError:
        return False
    return True


class _LastTry:
    """What the last try met, for the message."""

    error: Exception | None = None


def _is_asked(spec: EndpointSpec) -> bool:
    """Whether the probe is a round trip, which no proxy can answer for the service."""
    return spec.scheme != "tcp" or bool(spec.expect)


def _answers(spec: EndpointSpec, address: tuple[str, int], virtual_host: str) -> bool:
    if spec.scheme == "grpc":
        check_health(address, timeout=_ANSWER_WITHIN)
        return True
    if spec.scheme in _WEB:
        return _http_answers(spec, address, virtual_host)
    return _tcp_answers(spec, address)


def _http_answers(spec: EndpointSpec, address: tuple[str, int], virtual_host: str) -> bool:
    """Whether the path answers 2xx or 3xx; without a path any answer will do."""
    connection = _web_connection(spec, address, virtual_host)
    try:
        headers = {"Host": virtual_host} if virtual_host else {}
        connection.request("GET", spec.path or "/", headers=headers)
        status = connection.getresponse().status
    finally:
        connection.close()
    if spec.path and status >= HTTPStatus.BAD_REQUEST:
        msg = f"HTTP status {status}"
        raise NotReadyError(msg)
    return True


def _web_connection(
    spec: EndpointSpec, address: tuple[str, int], virtual_host: str
) -> http.client.HTTPConnection:
    if spec.scheme == "http":
        return http.client.HTTPConnection(*address, timeout=_ANSWER_WITHIN)
    context = _no_verification()
    connection = http.client.HTTPSConnection(*address, timeout=_ANSWER_WITHIN, context=context)
    if virtual_host:
        # A proxy chooses the certificate and the route by the name that TLS says.
        dialled = socket.create_connection(address, timeout=_ANSWER_WITHIN)
        connection.sock = context.wrap_socket(dialled, server_hostname=virtual_host)
    return connection


def _tcp_answers(spec: EndpointSpec, address: tuple[str, int]) -> bool:
    """Whether the connection stays open, or answers `send` with `expect`."""
    with socket.create_connection(address, timeout=_ANSWER_WITHIN) as connection:
        if spec.send:
            connection.sendall(spec.send.encode())
        if spec.expect:
            return _expected(connection, spec.expect.encode())
        connection.settimeout(_OPEN_SECONDS)
        try:
            if connection.recv(1) == b"":
                msg = "the connection was closed at once"
                raise NotReadyError(msg)
        except TimeoutError:
            return True
        return True


def _expected(connection: socket.socket, expect: bytes) -> bool:
    answer = b""
    while len(answer) < len(expect) and (part := connection.recv(4096)):
        answer += part
    if not answer.startswith(expect):
        msg = f"answered {answer!r} instead of {expect!r}"
        raise NotReadyError(msg)
    return True


def _no_verification() -> ssl.SSLContext:
    """Return a context for a probe that asks who is there, not who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

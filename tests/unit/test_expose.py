"""An endpoint is there when it has answered; tried with servers on this host."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import CancelledError, NotReadyError
from pytest_kindinfra.model import Endpoint, EndpointSpec, Scheme
from pytest_kindinfra.system.answers import prove_endpoint, takes_connections
from pytest_kindinfra.system.files import family_of
from pytest_kindinfra.system.timeline import Deadline, monotonic
from tests.fake_grpc import NOT_YET, SERVES, grpc_server
from tests.fakes import DeadlineWhen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Server:
    """Talks to whoever connects, one after the other; a connection is held until the end.

    Attributes:
        port: Where it listens.
        heard: What was sent to it.
    """

    def __init__(
        self,
        talk: Callable[[Server, socket.socket], None],
        port: int = 0,
        *,
        host: str = "127.0.0.1",
    ) -> None:
        self._talk = talk
        self._listener = socket.create_server((host, port), family=family_of(host))
        self.port: int = self._listener.getsockname()[1]
        self.heard: list[bytes] = []
        self._held = ExitStack()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._held.enter_context(connection)
            connection.settimeout(5)
            self._talk(self, connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._held.close()


@contextmanager
def serving(
    talk: Callable[[Server, socket.socket], None], host: str = "127.0.0.1"
) -> Iterator[Server]:
    server = Server(talk, host=host)
    try:
        yield server
    finally:
        server.close()


def http(status: int) -> Callable[[Server, socket.socket], None]:
    """Return how a web server talks that has but one answer."""

    def talk(server: Server, connection: socket.socket) -> None:
        server.heard.append(connection.recv(4096))
        answer = f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\nLocation: /elsewhere\r\n\r\n"
        connection.sendall(answer.encode())
        connection.close()

    return talk


def say(*parts: bytes) -> Callable[[Server, socket.socket], None]:
    """Return how a server talks that says this after it heard something."""

    def talk(server: Server, connection: socket.socket) -> None:
        server.heard.append(connection.recv(4096))
        for part in parts:
            connection.sendall(part)

    return talk


def hold(_: Server, __: socket.socket) -> None:
    """Say nothing and keep the connection."""


def hang_up(_: Server, connection: socket.socket) -> None:
    """End the connection at once, as the engine's proxy does with nothing behind it."""
    connection.close()


def speak_first(_: Server, connection: socket.socket) -> None:
    connection.sendall(b"220 ready\r\n")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def prove(spec: EndpointSpec, port: int, deadline: Deadline | None = None) -> Endpoint:
    return prove_endpoint(
        "api", spec, host_port=port, node=None, deadline=deadline or Deadline.after(10)
    )


def prove_through(server: Server, *, node_port: int) -> None:
    node = ("127.0.0.1", node_port)
    prove_endpoint("api", web(), host_port=server.port, node=node, deadline=Deadline.after(30))


def refusal(spec: EndpointSpec, server: Server) -> str:
    """Return the message at the deadline, which passes after the first try."""
    tried = iter([False, False])
    deadline = DeadlineWhen(lambda: next(tried, True))
    with pytest.raises(NotReadyError) as caught:
        prove(spec, server.port, deadline)
    return str(caught.value)


def web(path: str | None = None) -> EndpointSpec:
    return EndpointSpec(name="web", port=80, path=path)


def tcp(send: str | None = None, expect: str | None = None) -> EndpointSpec:
    return EndpointSpec(name="sql", port=5432, scheme="tcp", send=send, expect=expect)


def grpc() -> EndpointSpec:
    return EndpointSpec(name="rpc", port=9000, scheme="grpc")


class TestVirtualHosts:
    @pytest.mark.parametrize(
        ("virtual_host", "header"), [("shop.example.com", "shop.example.com"), ("", None)]
    )
    def test_a_web_request_names_the_host_that_it_is_for(
        self, virtual_host: str, header: str | None
    ) -> None:
        with serving(http(200)) as server:
            found = prove_endpoint(
                "api", web("/health"), host_port=server.port, node=None,
                virtual_host=virtual_host, deadline=Deadline.after(10),
            )  # fmt: skip

            (heard,) = server.heard
            assert f"Host: {header or f'127.0.0.1:{server.port}'}\r\n".encode() in heard
            assert heard.count(b"Host:") == 1
            assert found.virtual_host == virtual_host

    def test_a_request_with_tls_asks_for_the_certificate_of_that_host(self) -> None:
        tried = iter([False, False])
        spec = EndpointSpec(name="web", port=443, scheme="https", path="/")
        with serving(say(b"no TLS")) as server, pytest.raises(NotReadyError):
            prove_endpoint(
                "api", spec, host_port=server.port, node=None,
                virtual_host="shop.example.com",
                deadline=DeadlineWhen(lambda: next(tried, True)),
            )  # fmt: skip

        assert b"shop.example.com" in server.heard[0]


class TestGrpc:
    def test_a_server_must_say_that_it_serves(self) -> None:
        with grpc_server(SERVES) as port:
            endpoint = prove(grpc(), port)

        assert endpoint.url == f"grpc://127.0.0.1:{port}"

    def test_it_is_asked_until_it_does(self) -> None:
        with grpc_server(NOT_YET, NOT_YET, SERVES) as port:
            assert prove(grpc(), port).port == port

    def test_what_it_said_last_is_told(self) -> None:
        tried = iter([False, False])
        with grpc_server(NOT_YET) as port, pytest.raises(NotReadyError) as caught:
            prove(grpc(), port, DeadlineWhen(lambda: next(tried, True)))

        assert str(caught.value) == (
            f'endpoint "rpc" of "api" did not answer: grpc://127.0.0.1:{port}: '
            "its health is NOT_SERVING"
        )


class TestHttp:
    @pytest.mark.parametrize("status", [200, 204, 302, 399])
    def test_a_health_path_must_answer_well(self, status: int) -> None:
        with serving(http(status)) as server:
            endpoint = prove(web("/health"), server.port)

        assert endpoint == Endpoint(
            service="api", name="web", scheme="http", host="127.0.0.1", port=server.port
        )
        assert server.heard[0].startswith(b"GET /health HTTP/1.1\r\n")

    @pytest.mark.parametrize("status", [400, 404, 500, 503])
    def test_a_health_path_that_answers_badly_is_no_answer(self, status: int) -> None:
        with serving(http(status)) as server:
            message = refusal(web("/health"), server)

        assert message == (
            'endpoint "web" of "api" did not answer: '
            f"http://127.0.0.1:{server.port}/health: HTTP status {status}"
        )

    @pytest.mark.parametrize("status", [200, 302, 404, 500])
    def test_without_a_path_any_answer_will_do(self, status: int) -> None:
        with serving(http(status)) as server:
            assert prove(web(), server.port).port == server.port

        assert server.heard[0].startswith(b"GET / HTTP/1.1\r\n")

    def test_a_connection_that_is_closed_at_once_is_no_answer(self) -> None:
        with serving(hang_up) as server:
            assert f"http://127.0.0.1:{server.port}: " in refusal(web(), server)

    def test_something_that_is_not_http_is_no_answer(self) -> None:
        with serving(say(b"-ERR wrong\r\n")) as server:
            assert "-ERR wrong" in refusal(web(), server)

    def test_a_server_that_gets_well_is_waited_for(self) -> None:
        answers = iter([503, 500])

        def talk(server: Server, connection: socket.socket) -> None:
            http(next(answers, 200))(server, connection)

        with serving(talk) as server:
            prove(web("/health"), server.port)

        assert len(server.heard) == 3

    def test_a_server_without_tls_is_no_answer_to_https(self) -> None:
        spec = EndpointSpec(name="web", port=443, scheme="https")
        with serving(http(200)) as server:
            assert f"https://127.0.0.1:{server.port}: [SSL" in refusal(spec, server)

    def test_nothing_is_sent_before_the_kind_node_accepts(self) -> None:
        """A SYN that kube-proxy's rules missed held the first request up for a second."""
        port, nodes = free_port(), list[Server]()
        with serving(http(200)) as server:
            heard_before: list[int] = []

            def appear() -> None:
                heard_before.append(len(server.heard))
                nodes.append(Server(hang_up, port))

            timer = threading.Timer(0.3, appear)
            timer.start()
            prove_through(server, node_port=port)
            timer.join()
        nodes[0].close()

        assert heard_before == [0]
        assert len(server.heard) == 1

    def test_a_host_without_a_route_to_the_kind_node_asks_all_the_same(self) -> None:
        with serving(http(200)) as server:
            prove_through(server, node_port=free_port())

        assert len(server.heard) == 1


class TestTcp:
    @pytest.mark.parametrize("talk", [hold, speak_first], ids=["silent", "speaks first"])
    def test_a_connection_that_stays_open_is_an_answer(
        self, talk: Callable[[Server, socket.socket], None]
    ) -> None:
        with serving(talk) as server:
            assert prove(tcp(), server.port).url == f"tcp://127.0.0.1:{server.port}"

    def test_a_connection_that_is_closed_at_once_is_no_answer(self) -> None:
        """The engine's proxy accepts before anything listens behind it."""
        with serving(hang_up) as server:
            assert refusal(tcp(), server) == (
                'endpoint "sql" of "api" did not answer: '
                f"tcp://127.0.0.1:{server.port}: the connection was closed at once"
            )

    def test_what_is_sent_must_be_answered_as_expected(self) -> None:
        with serving(say(b"+PO", b"NG\r\n")) as server:
            prove(tcp(send="PING\r\n", expect="+PONG"), server.port)

        assert server.heard == [b"PING\r\n"]

    def test_another_answer_is_told(self) -> None:
        with serving(say(b"-LOADING\r\n")) as server:
            message = refusal(tcp(send="PING\r\n", expect="+PONG"), server)

        assert message.endswith("answered b'-LOADING\\r\\n' instead of b'+PONG'")

    def test_an_answer_that_breaks_off_is_told(self) -> None:
        def talk(_: Server, connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(b"+P")
            connection.close()

        with serving(talk) as server:
            message = refusal(tcp(send="PING\r\n", expect="+PONG"), server)

        assert message.endswith("answered b'+P' instead of b'+PONG'")

    def test_a_greeting_may_be_expected(self) -> None:
        with serving(speak_first) as server:
            prove(tcp(expect="220"), server.port)

    def test_the_kind_nodes_own_port_must_answer_too(self) -> None:
        closed = free_port()
        tried = iter([False, False])
        with serving(hold) as server, pytest.raises(NotReadyError, match="Connection refused"):
            prove_endpoint(
                "api",
                tcp(),
                host_port=server.port,
                node=("127.0.0.1", closed),
                deadline=DeadlineWhen(lambda: next(tried, True)),
            )

    def test_both_ports_together_are_an_answer(self, soon: Deadline) -> None:
        with serving(hold) as node, serving(hold) as server:
            prove_endpoint(
                "api",
                tcp(),
                host_port=server.port,
                node=("127.0.0.1", node.port),
                deadline=soon,
            )


class TestWaiting:
    def test_a_server_that_appears_is_found(self) -> None:
        port, servers = free_port(), list[Server]()
        appear = threading.Timer(0.1, lambda: servers.append(Server(http(200), port)))
        appear.start()

        prove(web("/health"), port)

        appear.join()
        servers[0].close()

    def test_the_message_says_what_the_last_try_met(self) -> None:
        port = free_port()

        with pytest.raises(NotReadyError) as caught:
            prove(web("/health"), port, Deadline.after(0.05))

        assert str(caught.value) == (
            'endpoint "web" of "api" did not answer: '
            f"http://127.0.0.1:{port}/health: [Errno 111] Connection refused"
        )

    def test_the_end_of_the_run_ends_it(self) -> None:
        deadline = Deadline.after(60)
        deadline.cancelled.set()

        with pytest.raises(CancelledError):
            prove(web(), free_port(), deadline)

    def test_what_is_behind_it_is_looked_at_meanwhile(self) -> None:
        """A crashed pod was waited for until the deadline."""
        start = monotonic()

        def broken() -> None:
            msg = "CrashLoopBackOff"
            raise NotReadyError(msg)

        with pytest.raises(NotReadyError, match=r"^CrashLoopBackOff$"):
            prove_endpoint(
                "api",
                web(),
                host_port=free_port(),
                node=None,
                deadline=Deadline.after(30),
                meanwhile=broken,
            )

        assert monotonic() - start < 20


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="IPv6 is off here")
@pytest.mark.parametrize("scheme", ["http", "tcp"])
def test_an_endpoint_on_an_ipv6_address_answers_under_a_url_with_brackets(scheme: Scheme) -> None:
    spec = EndpointSpec(name="web", port=80, scheme=scheme)
    with serving(http(200) if scheme == "http" else hold, host="::1") as server:
        endpoint = prove_endpoint(
            "api", spec, host="::1", host_port=server.port, node=None, deadline=Deadline.after(10)
        )

    assert endpoint.url == f"{scheme}://[::1]:{server.port}"


def test_what_was_scaled_to_nothing_is_waited_for_until_no_connection_is_taken() -> None:
    """The next request was answered by the last pod."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert takes_connections(address)

    assert not takes_connections(address)

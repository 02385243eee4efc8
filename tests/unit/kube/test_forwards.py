"""Ports of this host that lead to ready pods, through the API server."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import ClusterError, NotReadyError
from pytest_kindinfra.kube import portforward as forwards_module
from pytest_kindinfra.kube.backends import Backend
from pytest_kindinfra.kube.portforward import Forwards
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fake_kubernetes import FakeKubernetes

LABELS = {"app": "web"}


class Shouting(socketserver.BaseRequestHandler):
    """Sends back what it gets, in capital letters, until the other side has said all."""

    def handle(self) -> None:
        while data := self.request.recv(1 << 16):
            self.request.sendall(data.upper())


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def shouting() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Shouting) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def forwards(fake: FakeKubernetes, tmp_path: Path) -> Iterator[Forwards]:
    made = Forwards(fake.write_kubeconfig(tmp_path / "kubeconfig"))
    yield made
    made.close()
    assert [one for one in threading.enumerate() if "kindinfra" in one.name] == []


def pod(fake: FakeKubernetes, name: str, *, ready: bool = True, **meta: Any) -> None:
    port = {"name": "http", "containerPort": 8080}
    fake.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": LABELS, **meta},
            "spec": {"containers": [{"name": "main", "ports": [port]}]},
            "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
        }
    )


def backend(port: int | str = 8080) -> Backend:
    return Backend(namespace="default", labels=LABELS, port=port)


def ask(port: int, text: bytes = b"hello") -> bytes:
    """Return what is answered; nothing if the other side hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text)
        answer = b""
        while len(answer) < len(text) and (part := connection.recv(1 << 16)):
            answer += part
    return answer


def test_a_connection_reaches_the_pod_and_comes_back(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting

    forward = forwards.open(backend("http"), port=None, name="web.http")

    forward.check()
    assert ask(forward.port) == b"HELLO"


def test_much_goes_through_both_ways_while_nobody_reads(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting
    forward = forwards.open(backend(), port=None, name="web.http")
    text = b"abcdefgh" * (1 << 18)  # 2 MiB

    with socket.create_connection(("127.0.0.1", forward.port), timeout=30) as connection:
        writer = threading.Thread(target=connection.sendall, args=(text,))
        writer.start()
        time.sleep(0.3)  # the answer fills every buffer on the way
        answer = b""
        while len(answer) < len(text) and (part := connection.recv(1 << 16)):
            answer += part
        writer.join()

    assert answer == text.upper()


def test_many_connections_go_side_by_side(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting
    forward = forwards.open(backend(), port=None, name="web.http")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, [forward.port] * 60))

    assert answers == [b"HELLO"] * 60


def test_a_pod_that_was_replaced_is_found_by_the_next_connection(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting
    forward = forwards.open(backend(), port=None, name="web.http")
    assert ask(forward.port) == b"HELLO"

    fake.delete("/api/v1/namespaces/default/pods/web-1")
    assert ask_or_fail(forward.port) == b""
    pod(fake, "web-2")
    fake.ports["web-2", 8080] = shouting

    assert ask(forward.port) == b"HELLO"


def test_a_connection_waits_for_an_api_server_that_is_away_and_then_starts(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    """One that is started again refuses everybody until it has read the roles."""
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting
    forward = forwards.open(backend(), port=None, name="web.http")
    fake.fail("GET", "/pods", 0, times=6)
    fake.fail("GET", "/pods", 403, times=1)

    assert ask(forward.port) == b"HELLO"
    assert [fault.times for fault in fake.faults] == [0, 0]


def test_a_connection_does_not_wait_for_rights_that_the_user_lacks(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting
    forward = forwards.open(backend(), port=None, name="web.http")
    fake.fail("GET", "/pods", 403, times=1)

    assert ask_or_fail(forward.port) == b""
    assert ask(forward.port) == b"HELLO"


def test_closing_ends_a_connection_that_waits_for_the_api_server(
    fake: FakeKubernetes, forwards: Forwards
) -> None:
    forward = forwards.open(backend(), port=None, name="web.http")
    fake.fail("GET", "/pods", 0, times=1000)

    with socket.create_connection(("127.0.0.1", forward.port), timeout=10) as connection:
        assert eventually(lambda: fake.faults[0].times < 1000)
        forwards.close()
        assert connection.recv(1) == b""


def ask_or_fail(port: int) -> bytes:
    try:
        return ask(port)
    except ConnectionError:
        return b""


def test_only_a_ready_pod_is_taken_and_the_newest_of_several(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "old", creationTimestamp="2026-01-01T00:00:00Z")
    pod(fake, "ending", creationTimestamp="2026-01-04T00:00:00Z", deletionTimestamp="now")
    pod(fake, "starting", ready=False, creationTimestamp="2026-01-03T00:00:00Z")
    pod(fake, "new", creationTimestamp="2026-01-02T00:00:00Z")
    fake.ports["new", 8080] = shouting

    forward = forwards.open(backend(), port=None, name="web.http")

    assert ask(forward.port) == b"HELLO"


@pytest.mark.parametrize(
    ("ready", "port", "says"),
    [
        (None, 8080, "there is no pod behind it"),
        (False, 8080, "no pod behind it is ready"),
        (True, 8080, "port 8080: connection refused"),
        (True, "grpc", 'no container of the pods behind it has a port named "grpc"'),
    ],
)
def test_what_nobody_answers_is_no_endpoint_though_the_port_takes_connections(
    fake: FakeKubernetes, forwards: Forwards, *, ready: bool | None, port: int | str, says: str
) -> None:
    if ready is not None:
        pod(fake, "web-1", ready=ready)
    forward = forwards.open(backend(port), port=None, name="web.http")

    with pytest.raises(NotReadyError) as caught:
        forward.check()

    assert str(caught.value) == says
    assert ask_or_fail(forward.port) == b""


def test_a_fixed_port_is_used_and_a_busy_one_named(
    fake: FakeKubernetes, forwards: Forwards
) -> None:
    assert fake.url
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError) as caught:
            forwards.open(backend(), port=port, name="web.http")

    assert str(caught.value) == (
        f"port {port} of 127.0.0.1 cannot be used for web.http: Address already in use"
    )
    assert forwards.open(backend(), port=port, name="web.http").port == port


def test_closing_ends_open_connections_and_all_threads(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting
    forward = forwards.open(backend(), port=None, name="web.http")

    with socket.create_connection(("127.0.0.1", forward.port), timeout=10) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"X"
        forwards.close()
        assert connection.recv(1) == b""

    assert [one for one in threading.enumerate() if "kindinfra" in one.name] == []
    with pytest.raises(ClusterError, match="the run is over"):
        forwards.open(backend(), port=None, name="web.http")


def test_a_connection_that_the_pod_closes_is_closed(
    fake: FakeKubernetes, forwards: Forwards
) -> None:
    pod(fake, "web-1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake.ports["web-1", 8080] = listener.getsockname()[1]
        forward = forwards.open(backend(), port=None, name="web.http")
        with socket.create_connection(("127.0.0.1", forward.port), timeout=10) as connection:
            far, _ = listener.accept()
            far.sendall(b"bye")
            far.close()
            assert connection.recv(10) == b"bye"
            assert connection.recv(10) == b""


def test_a_client_that_has_said_all_still_gets_its_answer(
    fake: FakeKubernetes, forwards: Forwards, shouting: int
) -> None:
    pod(fake, "web-1")
    fake.ports["web-1", 8080] = shouting
    forward = forwards.open(backend(), port=None, name="web.http")

    with socket.create_connection(("127.0.0.1", forward.port), timeout=10) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"LAST WORDS"
        assert connection.recv(100) == b""
    assert eventually(lambda: len([t for t in threading.enumerate() if "web.http" in t.name]) == 1)


def test_closing_does_not_wait_for_an_api_server_that_does_not_answer(
    tmp_path: Path, fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwards_module, "_END_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
        text = kubeconfig.read_text().replace(
            fake.url, f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        kubeconfig.write_text(text)
        made = Forwards(kubeconfig)
        forward = made.open(backend(), port=None, name="web.http")
        with socket.create_connection(("127.0.0.1", forward.port), timeout=10):
            asked, _ = silent.accept()
            before = time.monotonic()
            made.close()
            assert time.monotonic() - before < 50
            asked.close()
    assert eventually(lambda: not [t for t in threading.enumerate() if "web.http" in t.name])

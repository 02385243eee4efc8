"""A port-forward is given away only once its far end holds a connection."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.session.fixtures import forwarded
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def server(*, closes: bool = False) -> Iterator[int]:
    """Accept connections and hold them, or close each at once; gives the port."""
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                if closes:
                    connection.close()
                else:
                    held.append(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()


def kubectl(script: str, *args: object) -> Callable[[int | None], list[str]]:
    """Return what makes a command that stands in for kubectl; $0 is the local port."""
    return lambda local: ["sh", "-c", script, str(local or ""), *map(str, args)]


FORWARDS = 'echo "Forwarding from 127.0.0.1:$1 -> 80"; exec sleep 60'


def runs(pid: str) -> bool:
    return Path(f"/proc/{pid.strip()}").exists()


def test_the_port_that_kubectl_chose_is_given() -> None:
    with server() as port, forwarded(kubectl(FORWARDS, port), local_port=None, retries=1) as given:
        assert given == port


def test_kubectl_ends_with_the_block(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f'echo $$ > "$2"; {FORWARDS}'

    with server() as port, forwarded(kubectl(script, port, pid), local_port=None, retries=1):
        assert runs(pid.read_text())

    assert not runs(pid.read_text())


def test_it_is_started_again_when_kubectl_ends(tmp_path: Path) -> None:
    """It does at the first connection that the far end refuses, as slow servers do."""
    script = f'if [ ! -e "$2" ]; then touch "$2"; echo refused; exit 1; fi; {FORWARDS}'

    with (
        server() as port,
        forwarded(kubectl(script, port, tmp_path / "tried"), local_port=None, retries=2) as given,
    ):
        assert given == port


def test_a_far_end_that_closes_at_once_is_no_answer() -> None:
    with (
        server(closes=True) as port,
        pytest.raises(KindInfraError, match="did not answer after 1 tries"),
        forwarded(kubectl(FORWARDS, port), local_port=None, retries=1),
    ):
        pass


def test_the_last_output_of_kubectl_is_shown() -> None:
    with (
        pytest.raises(KindInfraError) as caught,
        forwarded(kubectl('echo "error: pods not found" >&2; exit 1'), local_port=None, retries=1),
    ):
        pass

    assert str(caught.value) == (
        "the port-forward did not answer after 1 tries: error: pods not found"
    )


def test_it_is_started_again_on_the_same_port_when_it_ends_later(tmp_path: Path) -> None:
    """As kubectl does when its pod goes."""
    pid, ports = tmp_path / "pid", tmp_path / "ports"
    script = f'echo $$ > "$2"; echo "$0" >> "$3"; {FORWARDS}'

    with (
        server() as port,
        forwarded(kubectl(script, port, pid, ports), local_port=None, retries=1) as given,
    ):
        first = pid.read_text()
        os.kill(int(first), signal.SIGKILL)
        assert eventually(lambda: pid.read_text() not in {"", first})
        assert runs(pid.read_text())
        assert eventually(lambda: ports.read_text().splitlines() == ["", str(port)])

    assert not runs(pid.read_text())
    assert given == port
    assert [one for one in threading.enumerate() if "kindinfra" in one.name] == []


def test_a_certain_port_is_asked_for(tmp_path: Path) -> None:
    ports = tmp_path / "ports"
    script = f'echo "$0" >> "$2"; {FORWARDS}'

    with server() as port, forwarded(kubectl(script, port, ports), local_port=7, retries=1):
        assert ports.read_text() == "7\n"

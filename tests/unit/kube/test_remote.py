"""A command in a container: its streams as they come, its exit code, and why there is none."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_kindinfra.errors import ClusterError, KindInfraError, NotReadyError
from pytest_kindinfra.kube.execsocket import Container
from pytest_kindinfra.kube.remote import Streams, run_in_container

if TYPE_CHECKING:
    from pytest_kindinfra.kube.client import Transport


class Websocket:
    """Gives frames, and fails when there are none left."""

    def __init__(self, *frames: bytes) -> None:
        self.frames = list(frames)
        self.closed = False

    def recv(self) -> bytes:
        if not self.frames:
            msg = "reset by peer"
            raise OSError(msg)
        return self.frames.pop(0)

    def getheaders(self) -> dict[str, str]:
        return {"Sec-WebSocket-Protocol": "v4.channel.k8s.io"}

    def shutdown(self) -> None:
        self.closed = True


def status(**answer: Any) -> bytes:
    return b"\x03" + json.dumps(answer).encode()


def run(websocket: Websocket, stdin: io.BytesIO | None = None) -> tuple[int, bytes, bytes]:
    class Fake:
        def websocket(self, path: str, query: list[tuple[str, str]], *, protocol: str) -> Websocket:
            assert path == "/api/v1/namespaces/shop/pods/web-1/exec"
            assert ("container", "main") in query
            assert [word for key, word in query if key == "command"] == ["ls", "-l"]
            assert protocol.startswith("v5.channel.k8s.io")
            return websocket

    out, err = io.BytesIO(), io.BytesIO()
    code = run_in_container(
        cast("Transport", Fake()),
        Container("shop", "web-1", "main"),
        ["ls", "-l"],
        Streams(out, err, stdin),
    )
    return code, out.getvalue(), err.getvalue()


def test_the_streams_are_kept_apart_and_the_exit_code_is_the_commands() -> None:
    causes = [{"reason": "ExitCode", "message": "7"}]
    end = status(status="Failure", details={"causes": causes})

    found = run(Websocket(b"\x01one ", b"\x02oh", b"\x01", b"\x01two", end))

    assert found == (7, b"one two", b"oh")


def test_success_is_0_and_the_connection_is_closed() -> None:
    websocket = Websocket(status(status="Success"))

    assert run(websocket) == (0, b"", b"")
    assert websocket.closed


def test_a_command_that_cannot_be_started() -> None:
    with pytest.raises(KindInfraError) as caught:
        run(Websocket(status(status="Failure", message='exec: "ls": not found')))

    assert str(caught.value) == '"ls" could not be started: exec: "ls": not found'


@pytest.mark.parametrize("frames", [[], [b"\x01half", b""]])
def test_a_connection_that_ends_first_is_an_error(frames: list[bytes]) -> None:
    websocket = Websocket(*frames)

    with pytest.raises(ClusterError, match="the connection to the command"):
        run(websocket)
    assert websocket.closed


def test_input_for_a_server_that_cannot_end_it_is_refused() -> None:
    """Such a command used to wait for the end of its input for ever."""
    websocket = Websocket(status(status="Success"))

    with pytest.raises(NotReadyError, match=r"input needs a Kubernetes 1\.30 or later"):
        run(websocket, io.BytesIO(b"one"))
    assert websocket.closed

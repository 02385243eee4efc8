"""Run a command in a container of a pod, over a websocket."""

from __future__ import annotations

import json
import math
import select
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube.execsocket import BEFORE_END, CHUNK, ExecChannel, exit_code_of, open_exec
from pytest_kindinfra.system.timeline import monotonic, retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.kube.client import Transport
    from pytest_kindinfra.kube.execsocket import Container
    from pytest_kindinfra.system.timeline import Deadline


_LOOK_EVERY = 0.5


_OPENING_TRIES = 60


_OPENING_PAUSE = 0.5


_REFUSED = ("Handshake status 4",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What came of a command.

    Attributes:
        exit_code: The command's; None if it did not end in time, was never started, or if the
            connection broke off.
        stdout: What it printed on standard output.
        stderr: What it printed on standard error.
        failure: Why there is no exit code.
    """

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    failure: str = ""


def execute(
    transport: Transport,
    where: Container,
    command: Sequence[str],
    *,
    stdin: bytes | None,
    deadline: Deadline,
) -> Executed:
    """Run a command and return what came of it.

    Args:
        transport: The cluster.
        where: The container.
        command: Its words; no shell is involved.
        stdin: What it reads from standard input; None gives it none.
        deadline: When to stop waiting; the command itself then goes on in its container.

    Raises:
        ClusterError: The API server does not answer until the deadline, or refuses.
        NotReadyError: It gets standard input, whose end this API server cannot pass on.
        CancelledError: The run is ending.
    """
    stream = _Stream(_open(transport, where, command, stdin, deadline), stdin)
    try:
        return stream.run(deadline)
    finally:
        stream.close()


def _open(
    transport: Transport,
    where: Container,
    command: Sequence[str],
    stdin: bytes | None,
    deadline: Deadline,
) -> Any:
    """Start the command; it was not as long as that fails, so it is tried again.

    A refusal is final, unless the API server was away: then it may not have read the roles yet.
    """
    away = False

    def pause(error: ClusterError) -> None:
        nonlocal away
        refused = any(text in str(error) for text in _REFUSED)
        away = away or not refused
        if deadline.passed or not away:
            raise error
        deadline.pause(_OPENING_PAUSE)

    return retry(
        lambda: open_exec(transport, where, command, stdin=stdin is not None),
        tries=_OPENING_TRIES,
        on=ClusterError,
        between=pause,
    )


@dataclass(slots=True)
class _Stream:
    """The four streams of one command over one websocket.

    Nothing blocks: a command that prints while it reads would else wait for us, and we for it.
    """

    websocket: Any
    stdin: bytes | None
    _to_pod: bytes = b""
    _end_of_input: bytes = b""
    _end_due: float = math.inf
    _received: dict[int, bytearray] = field(default_factory=dict)
    _ended: bool = False

    def run(self, deadline: Deadline) -> Executed:
        """Carry bytes until the command has ended."""
        self._queue_input()
        self.websocket.sock.setblocking(False)  # noqa: FBT003 - the socket module's word
        while not self._ended and ExecChannel.STATUS not in self._received:
            deadline.check()
            if deadline.passed:
                return self._outcome(None, f"it did not end{deadline.exceeded()}")
            self._carry(min(_LOOK_EVERY, deadline.left))
        return self._judged()

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):  # of whatever websocket-client makes of a dead connection
            self.websocket.shutdown()

    def _queue_input(self) -> None:
        from websocket import ABNF

        def frame(payload: bytes) -> bytes:
            made: bytes = ABNF.create_frame(payload, ABNF.OPCODE_BINARY).format()
            return made

        if self.stdin is None:
            return
        parts = range(0, len(self.stdin), CHUNK)
        frames = [frame(bytes([ExecChannel.STDIN]) + self.stdin[at : at + CHUNK]) for at in parts]
        self._to_pod = b"".join(frames)
        self._end_of_input = frame(bytes([ExecChannel.CLOSE, ExecChannel.STDIN]))
        self._end_due = monotonic() + (BEFORE_END if frames else 0.0)

    def _carry(self, seconds: float) -> None:
        sock = self.websocket.sock
        if not self._to_pod:
            left = self._end_due - monotonic()
            seconds = min(seconds, max(left, 0.0))
            if left <= 0:
                self._to_pod, self._end_due = self._end_of_input, math.inf
        pending = getattr(sock, "pending", lambda: 0)()  # what TLS has decrypted already
        writers = [sock] if self._to_pod else []
        readable, writable, _ = select.select([sock], writers, [], 0 if pending else seconds)
        if writable:
            self._send()
        if readable or pending:
            self._receive()

    def _send(self) -> None:
        import ssl

        try:
            self._to_pod = self._to_pod[self.websocket.sock.send(self._to_pod[: 4 * CHUNK]) :]
            if self._end_due < math.inf:
                self._end_due = monotonic() + BEFORE_END
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:  # the command ended without reading all of it
            self._to_pod, self._end_due = b"", math.inf

    def _receive(self) -> None:
        import ssl

        from websocket import ABNF, WebSocketException, WebSocketTimeoutException

        waiting = (
            BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError, WebSocketTimeoutException
        )  # fmt: skip
        try:
            code, frame = self.websocket.recv_data_frame(True)  # noqa: FBT003 - control frames too
        except waiting:
            return
        except (WebSocketException, OSError):
            self._ended = True
            return
        if code == ABNF.OPCODE_CLOSE:
            self._ended = True
        elif code in {ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT} and frame.data:
            data = bytes(frame.data)
            if data[1:] or data[0] == ExecChannel.STATUS:
                self._received.setdefault(data[0], bytearray()).extend(data[1:])

    def _judged(self) -> Executed:
        if ExecChannel.STATUS not in self._received:
            broken = "the connection to the API server broke off before the command ended"
            return self._outcome(None, f"{broken}: it may go on")
        status = json.loads(bytes(self._received[ExecChannel.STATUS]) or b"{}")
        if (code := exit_code_of(status)) is not None:
            return self._outcome(code)
        return self._outcome(None, str(status.get("message") or "it could not be started"))

    def _outcome(self, exit_code: int | None, failure: str = "") -> Executed:
        stdout, stderr = (
            bytes(self._received.get(one, b"")) for one in (ExecChannel.STDOUT, ExecChannel.STDERR)
        )
        return Executed(exit_code=exit_code, stdout=stdout, stderr=stderr, failure=failure)

"""A port-forward by kubectl that is proved before use and started again when kubectl ends.

kubectl ends at the first connection that the far end refuses, and when its pod goes; so a server
that is slow to start needs several tries, and one that is replaced a new kubectl. It must not know
whose port it forwards.
"""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.process import Background
from pytest_kindinfra.redaction import Redactor
from pytest_kindinfra.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PORT = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
_PER_TRY = 5.0
_BETWEEN_TRIES = 0.5
_HELD_OPEN = 0.2
_LOOK_EVERY = 0.05


@contextmanager
def forwarded(
    command: Callable[[int | None], Sequence[str]], *, local_port: int | None, retries: int
) -> Iterator[int]:
    """Run `kubectl port-forward` and give the local port once its far end holds a connection.

    While the block runs, kubectl is started again on the same port whenever it ends.

    Args:
        command: Makes the command for a local port; without one kubectl chooses.
        local_port: The port to use, if it must be a certain one.
        retries: How often to start it before giving up.

    Raises:
        KindInfraError: The far end never answered; holds what kubectl said last.
    """
    said = ""
    for _ in range(max(1, retries)):
        with Background(command(local_port)) as process:
            port = wait_until(partial(_port, process), Deadline.after(_PER_TRY), every=0.02)
            if port and _answers(port, process):
                with _kept(process, partial(command, port)):
                    yield port
                return
            said = process.output()
        Deadline.after(_BETWEEN_TRIES).pause(_BETWEEN_TRIES)
    shown = Redactor().text(said.strip())
    msg = f"the port-forward did not answer after {retries} tries: {shown}"
    raise KindInfraError(msg)


@contextmanager
def _kept(first: Background, again: Callable[[], Sequence[str]]) -> Iterator[None]:
    """Have kubectl started again while the block runs; no thread is left after it."""
    over = threading.Event()
    thread = threading.Thread(
        target=_keep, args=(first, again, over), name="kindinfra-port-forward", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _keep(first: Background, again: Callable[[], Sequence[str]], over: threading.Event) -> None:
    _await_end(first, over)
    while not over.is_set():
        with Background(again()) as process:
            _await_end(process, over)
        over.wait(_BETWEEN_TRIES)


def _await_end(process: Background, over: threading.Event) -> None:
    while not process.ended() and not over.wait(_LOOK_EVERY):
        pass


def _port(process: Background) -> int | None:
    if match := _PORT.search(process.output()):
        return int(match[1])
    if process.ended():
        return -1
    return None


def _answers(port: int, process: Background) -> bool:
    """Whether a connection stays open: kubectl accepts it before it has reached the far end."""
    if port < 0:
        return False
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PER_TRY) as connection:
            connection.settimeout(_HELD_OPEN)
            try:
                open_still = connection.recv(1) != b""
            except TimeoutError:
                open_still = True
    except OSError:
        return False
    return open_still and not process.ended()

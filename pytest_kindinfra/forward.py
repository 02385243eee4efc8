"""A port-forward by kubectl that is proved before use and started again when kubectl ends.

kubectl ends at the first connection that the far end refuses; so a server that is slow to start
needs several tries. It must not know whose port it forwards.
"""

from __future__ import annotations

import re
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.process import Background
from pytest_kindinfra.redaction import Redactor
from pytest_kindinfra.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PORT = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
_PER_TRY = 5.0
_BETWEEN_TRIES = 0.5
_HELD_OPEN = 0.2


@contextmanager
def forwarded(argv: Sequence[str], *, retries: int) -> Iterator[int]:
    """Run `kubectl port-forward` and give the local port once its far end holds a connection.

    Args:
        argv: The command; with `:REMOTE` kubectl chooses the local port.
        retries: How often to start it before giving up.

    Raises:
        KindInfraError: The far end never answered; holds what kubectl said last.
    """
    said = ""
    for _ in range(max(1, retries)):
        with Background(argv) as process:
            port = wait_until(partial(_port, process), Deadline.after(_PER_TRY), every=0.02)
            if port and _answers(port, process):
                yield port
                return
            said = process.output()
        Deadline.after(_BETWEEN_TRIES).pause(_BETWEEN_TRIES)
    shown = Redactor().text(said.strip())
    msg = f"the port-forward did not answer after {retries} tries: {shown}"
    raise KindInfraError(msg)


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

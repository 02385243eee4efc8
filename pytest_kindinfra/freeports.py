"""Free ports of this host that are likely to stay free until somebody listens.

It knows nothing of who will.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Container
    from contextlib import ExitStack

_QUIET_PORTS = range(20000, 30000)
"""Below those that systems give to whoever asks for any: from 32768 on Linux, 49152 elsewhere. A
port that was just found free there may be an outgoing connection's in the next moment."""
_DRAWS = 20


def free_port(
    held: ExitStack, taken: Container[int | None] = (), *, address: str = "127.0.0.1"
) -> int:
    """Return a port that is free.

    Args:
        held: Keeps the port until it is closed, so that the next call finds another.
        taken: Ports that will not do.
        address: On which it is to be free.

    Raises:
        ClusterError: There is none.
    """
    draws = (SystemRandom().choice(_QUIET_PORTS) for _ in range(_DRAWS))
    for port in (*(port for port in draws if port not in taken), 0):
        listener = held.enter_context(socket.socket(family_of(address)))
        with suppress(OSError):
            listener.bind((address, port))
            found: int = listener.getsockname()[1]
            return found
    msg = f"no port of {address} is free"
    raise ClusterError(msg)


def family_of(address: str) -> socket.AddressFamily:
    """Return the family of an IP address, as sockets name it."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET

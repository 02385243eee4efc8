"""Whether the container engine is on this host.

Ports of a kind cluster are mapped to 127.0.0.1 of the engine's host and folders are mounted from
there, so an engine on another host cannot be used. What cannot be read is not taken for another
host. It must not know how each engine is configured.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_kindinfra.system.files import read_text

if TYPE_CHECKING:
    from pathlib import Path


_REMOTE = frozenset({"tcp", "http", "https", "ssh"})


_FIX = (
    "use an engine of this host, run the tests on the engine's host, or use a cluster that this "
    "host reaches: --kindinfra-kubeconfig=FILE"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAddress:
    """Where a client finds its engine.

    Attributes:
        url: The address; empty for the client's own default, None if it cannot be read.
        source: What says so: `DOCKER_HOST`, `docker context "x"`.
    """

    url: str | None = ""
    source: str = ""

    @property
    def elsewhere(self) -> bool:
        """Whether it is certainly on another host."""
        parts = urlsplit(self.url or "")
        return parts.scheme in _REMOTE and not _is_here(parts.hostname or "")


def elsewhere_problem(engine: str, address: EngineAddress) -> str | None:
    """Return a sentence if the engine is on another host.

    Args:
        engine: The engine's name.
        address: Where its program finds it.
    """
    if not address.elsewhere:
        return None
    where = f'{address.source}: the {engine} engine at "{address.url}" is on another host'
    return f"{where}, where tests cannot reach the cluster's ports; to fix: {_FIX}"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one if it cannot be read."""
    with suppress(OSError, ValueError):
        found = json.loads(read_text(path))
        return found if isinstance(found, dict) else {}
    return {}


def _is_here(host: str) -> bool:
    """Whether a name or address is this host's: only its own addresses can be bound."""
    if host in {"localhost", ""} or host.endswith(".localhost"):
        return True
    with suppress(ValueError):
        return _can_bind(str(ipaddress.ip_address(host)))
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return any(_can_bind(str(address[0])) for *_, address in found)


def _can_bind(address: str) -> bool:
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True

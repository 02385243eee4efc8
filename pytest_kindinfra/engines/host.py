"""Where the container engine and its disk are, read from the environment and from its files.

Ports of a kind cluster are mapped to 127.0.0.1 of the engine's host and folders are mounted from
there, so an engine on another host cannot be used. What cannot be read is not taken for another
host.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import socket
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_kindinfra.system.files import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping


_REMOTE = frozenset({"tcp", "http", "https", "ssh"})


_USUAL = frozenset({"", "unix:///var/run/docker.sock", "unix:///run/docker.sock"})


_CONTAINERS_CONF = (Path("/usr/share/containers"), Path("/etc/containers"))


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
    def usual(self) -> bool:
        """Whether it is the engine that this host has by default."""
        return self.url in _USUAL

    @property
    def elsewhere(self) -> bool:
        """Whether it is certainly on another host."""
        parts = urlsplit(self.url or "")
        return parts.scheme in _REMOTE and not _is_here(parts.hostname or "")


def engine_address(environ: Mapping[str, str], engine: str) -> EngineAddress:
    """Return where `docker` or `podman` finds its engine.

    Args:
        environ: The environment.
        engine: `docker` or `podman`.
    """
    return _podman_address(environ) if engine == "podman" else _docker_address(environ)


def elsewhere_problems(environ: Mapping[str, str], engine: str) -> list[str]:
    """Return a sentence if the engine is on another host."""
    address = engine_address(environ, engine)
    if not address.elsewhere:
        return []
    where = f'{address.source}: the {engine} engine at "{address.url}" is on another host'
    return [f"{where}, where tests cannot reach the cluster's ports; to fix: {_FIX}"]


_DAEMON = Path("/etc/docker/daemon.json")


_DOCKER_ROOT = "/var/lib/docker"


_STORAGE = Path("/etc/containers/storage.conf")


_PODMAN_ROOT = Path("/var/lib/containers/storage")


def docker_root(environ: Mapping[str, str], *, daemon: Path = _DAEMON) -> Path | None:
    """Return where the Docker engine of this host keeps all it has; None if nobody can tell.

    Args:
        environ: The environment, which may lead to another engine.
        daemon: The engine's configuration (docs.docker.com, dockerd, `data-root`).
    """
    if not engine_address(environ, "docker").usual:
        return None
    return Path((_json(daemon) or {}).get("data-root") or _DOCKER_ROOT)


def podman_root(environ: Mapping[str, str], *, storage: Path = _STORAGE) -> Path | None:
    """Return where podman keeps all it has; None if nobody can tell.

    Args:
        environ: The environment, which may lead to podman elsewhere.
        storage: The host's configuration (containers-storage.conf(5), `graphroot`).
    """
    if not engine_address(environ, "podman").usual:
        return None
    if os.geteuid():
        data = Path(environ.get("XDG_DATA_HOME") or Path(environ.get("HOME", "/"), ".local/share"))
        return data / "containers" / "storage"
    with suppress(OSError, ValueError):
        found = tomllib.loads(read_text(storage)).get("storage", {}).get("graphroot")
        return Path(found or _PODMAN_ROOT)
    return _PODMAN_ROOT


def _docker_address(environ: Mapping[str, str]) -> EngineAddress:
    """Resolve as the `docker` command does: DOCKER_HOST, DOCKER_CONTEXT, the current context."""
    if host := environ.get("DOCKER_HOST"):
        return EngineAddress(url=host, source="DOCKER_HOST")
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    config = _json(folder / "config.json")
    name = environ.get("DOCKER_CONTEXT") or (config or {}).get("currentContext")
    if not isinstance(name, str) or name in {"", "default"}:
        return EngineAddress()
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = _json(folder / "contexts" / "meta" / digest / "meta.json")
    endpoints = meta.get("Endpoints") if meta else None
    docker = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = docker.get("Host") if isinstance(docker, dict) else None
    source = f'docker context "{name}"'
    return EngineAddress(url=host if isinstance(host, str) else None, source=source)


def _podman_address(environ: Mapping[str, str]) -> EngineAddress:
    """Resolve as podman does: CONTAINER_HOST, CONTAINER_CONNECTION; its default is no server."""
    if host := environ.get("CONTAINER_HOST"):
        return EngineAddress(url=host, source="CONTAINER_HOST")
    if name := environ.get("CONTAINER_CONNECTION"):
        source = f'podman connection "{name}" (CONTAINER_CONNECTION)'
        return EngineAddress(url=_connection(environ, name), source=source)
    if "CONTAINERS_STORAGE_CONF" in environ:  # here, but its folders may be anywhere
        return EngineAddress(url=None, source="CONTAINERS_STORAGE_CONF")
    return EngineAddress()


def _connection(environ: Mapping[str, str], name: str) -> str | None:
    config = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    listed = (_json(config / "containers" / "podman-connections.json") or {}).get("Connection")
    found = (listed.get("Connections") if isinstance(listed, dict) else None) or {}
    one = found.get(name) if isinstance(found, dict) else None
    if isinstance(one, dict) and isinstance(one.get("URI"), str):
        return str(one["URI"])
    for folder in (config / "containers", *reversed(_CONTAINERS_CONF)):
        with suppress(OSError, ValueError, LookupError, TypeError):
            engine = tomllib.loads((folder / "containers.conf").read_text("utf-8"))["engine"]
            return str(engine["service_destinations"][name]["uri"])
    return None


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


def _json(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        found = json.loads(read_text(path))
        return found if isinstance(found, dict) else None
    return None

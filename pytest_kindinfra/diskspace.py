"""A disk too full for a cluster: found before anything is built, where the engine's can be seen.

An engine that is not on this host, or in a virtual machine of its own, is not judged.
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.enginehost import engine_address
from pytest_kindinfra.textfiles import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NODE_BYTES = 600_000_000
"""What a kind node takes before anything is loaded: its own images, unpacked logs, etcd's log of
64 MB. Measured with Kubernetes 1.34: 0.38 GB at its first second, 0.5 GB when it takes pods."""

_DAEMON = Path("/etc/docker/daemon.json")
_DEFAULT_ROOT = "/var/lib/docker"
_FIX = "to fix: free some; `kindinfra gc --images` removes old images of ours"
_PLENTY = 50_000_000_000
"""Free bytes with which nobody asks how much images take."""
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
    return Path(_settings(daemon).get("data-root") or _DEFAULT_ROOT)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the images of a run take, in bytes.

    Attributes:
        in_node: In each kind node.
        builds: In the engine.
    """

    in_node: int = 0
    builds: int = 0


def disk_problem(root: Path | None, *, nodes: int, images: Callable[[], Room] = Room) -> str | None:
    """Return why the engine's disk has no room for a run; None if it has or nobody can tell.

    Args:
        root: Where the engine keeps all it has, None if nobody can tell.
        nodes: How many kind nodes there will be.
        images: Says what images will take; called only where it may matter.
    """
    if root is None:
        return None
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        return None
    beginning = f"the engine's disk ({root}) has {_gigabytes(free)} free"
    if free < (alone := nodes * NODE_BYTES):
        verb = "take" if nodes > 1 else "takes"
        return f"{beginning}, and {_kind_nodes(nodes)} alone {verb} {_gigabytes(alone)}; {_FIX}"
    if free >= _PLENTY:
        return None
    room = images()
    if free >= (needed := alone + nodes * room.in_node + room.builds):
        return None
    about = f"this run takes about {_gigabytes(needed)}"
    return f"{beginning}, and {about}: {_parts(nodes, room)}; {_FIX}"


def _parts(nodes: int, room: Room) -> str:
    each, place = (" each", "each") if nodes > 1 else ("", "it")
    parts = [
        f"{_kind_nodes(nodes)} with {_gigabytes(NODE_BYTES)}{each}",
        f"images of {_gigabytes(room.in_node)} in {place}, packed and unpacked",
        *([f"builds of {_gigabytes(room.builds)}"] if room.builds else []),
    ]
    return ", ".join(parts)


def _kind_nodes(count: int) -> str:
    return f"{count} kind node{'s' * (count > 1)}"


def _settings(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(read_text(path))
        if isinstance(found, dict):
            return found
    return {}


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"

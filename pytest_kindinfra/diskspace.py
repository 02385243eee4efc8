"""A disk too full for a cluster: found before anything is built, where the engine's can be seen.

An engine that is not on this host, or in a virtual machine of its own, is not judged.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NODE_BYTES = 600_000_000
"""What a kind node takes before anything is loaded: its own images, unpacked logs, etcd's log of
64 MB. Measured with Kubernetes 1.34: 0.38 GB at its first second, 0.5 GB when it takes pods."""

_DAEMON = Path("/etc/docker/daemon.json")
_DEFAULT_ROOT = "/var/lib/docker"


def disk_problem(*, nodes: int, environ: Mapping[str, str], daemon: Path = _DAEMON) -> str | None:
    """Return why the engine's disk has no room for a cluster; None if it has or nobody can tell.

    Args:
        nodes: How many kind nodes there will be.
        environ: The environment, which may lead to another engine.
        daemon: The configuration of the Docker engine (docs.docker.com, dockerd, `data-root`).
    """
    if _is_elsewhere(environ):
        return None
    root = Path(_settings(daemon).get("data-root") or _DEFAULT_ROOT)
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        return None
    if free >= (needed := nodes * NODE_BYTES):
        return None
    return (
        f"the engine's disk ({root}) has {_gigabytes(free)} free, and {nodes} kind "
        f"node{'s' * (nodes > 1)} alone {'take' if nodes > 1 else 'takes'} {_gigabytes(needed)}; "
        "to fix: free some; `kindinfra gc --images` removes old images of ours"
    )


def _is_elsewhere(environ: Mapping[str, str]) -> bool:
    """Whether another engine is meant than the one that this host has as usual."""
    if host := environ.get("DOCKER_HOST"):
        return host != "unix:///var/run/docker.sock"
    folder = Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME", "/")) / ".docker")
    context = environ.get("DOCKER_CONTEXT") or _settings(folder / "config.json").get(
        "currentContext"
    )
    return context not in (None, "", "default")


def _settings(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"

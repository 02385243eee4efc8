"""What a run ran with: versions of programs, and the machine."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.state.clusterrecords import KubernetesVersion
from pytest_kindinfra.state.records import ProgramVersions

if TYPE_CHECKING:
    from pytest_kindinfra.state.directory import RunDirectory


_NODE_IMAGE = re.compile(r"Ensuring node image \(([^)]+)\)")


_PACKAGES = {"plugin": "pytest-kindinfra", "pytest": "pytest", "xdist": "pytest-xdist"}


def versions(run: RunDirectory, *, node_image: str | None) -> dict[str, str | None]:
    """Return what is known of the versions of a run; None for what is not.

    Args:
        run: Where the bring-up noted the versions of engine, kind and Kubernetes.
        node_image: The one that was asked for; None if that was left to kind.

    Returns:
        `plugin`, `python`, `pytest`, `xdist`, `kind`, `engine`, `kubernetes`, `node_image`.
    """
    noted, kubernetes = run.read(ProgramVersions), run.read(KubernetesVersion)
    return {
        **{key: _version(name) for key, name in _PACKAGES.items()},
        "python": platform.python_version(),
        "kind": noted.kind if noted else None,
        "engine": noted.engine if noted else None,
        "kubernetes": kubernetes.version if kubernetes else None,
        "node_image": node_image or _node_image(run),
    }


def _version(package: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(package)
    return None


def _node_image(run: RunDirectory) -> str | None:
    """Return the node image that kind chose, as it said."""
    with suppress(OSError):
        said = (run.path / "kind-create.log").read_text("utf-8", errors="replace")
        if found := _NODE_IMAGE.search(said):
            return found[1]
    return None


def machine() -> dict[str, Any]:
    """Return what matters of this machine for how long things take.

    Returns:
        `system`, `architecture`, `cpus`, `memory_bytes` (None if unknown), and `ci`:
        whether a CI service says that it runs this.
    """
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_bytes": _memory(),
        "ci": bool(os.environ.get("CI")),
    }


def _memory() -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None

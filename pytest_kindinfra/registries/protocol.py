"""What this project asks of whoever runs a registry beside the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.hosting import Registry
    from pytest_kindinfra.timeline import Deadline


class RegistryHost(Protocol):
    """Finds and runs registries in containers."""

    def find(self, address: str, deadline: Deadline) -> Registry:
        """Return the user's own registry.

        Args:
            address: What was declared: `localhost:5001`.
            deadline: When to give up.

        Raises:
            ClusterError: No container is published there, or nothing answers.
        """
        ...

    def run(self, deadline: Deadline) -> Registry:
        """Return ours, started unless it runs; one for all runs of this host.

        Raises:
            ClusterError: It cannot be started.
        """
        ...

    def open_to(self, node: str, registry: Registry, folder: Path, deadline: Deadline) -> None:
        """Let a kind node pull from the registry.

        Args:
            node: The kind node's name.
            registry: What `find` or `run` returned.
            folder: Gets the file that the kind node is given.
            deadline: When to give up.
        """
        ...

    def digest_of(self, name: str, image_id: str, deadline: Deadline) -> str | None:
        """Return the digest by which an image can be pulled, None if the registry has it not.

        Whoever can reach a registry without a password can push anything under any name, so the
        name alone proves nothing.

        Args:
            name: What it is called there.
            image_id: The engine's id of the image, which what is there must have.
            deadline: When to give up.
        """
        ...

    def remove(self, deadline: Deadline) -> bool:
        """Remove ours with all that it holds; return whether there was one."""
        ...

"""A registry in a container, and who finds and runs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A registry in a container.

    Attributes:
        container: The container's name, by which others in its networks find it.
        address: What this host pushes to, and what pods name: `localhost:5001`.
        port: The port that it listens to in its container.
    """

    container: str
    address: str
    port: int

    @property
    def inside(self) -> str:
        """Its address in the networks that it has joined: `kind-registry:5000`."""
        return f"{self.container}:{self.port}"


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

        Every process that reaches a registry without a password can push to any name, so the
        name alone proves nothing.

        Args:
            name: What it is called there.
            image_id: The engine's id of the image, which the image there must have.
            deadline: When to give up.
        """
        ...

    def remove(self, deadline: Deadline) -> bool:
        """Remove ours with all that it holds; return whether there was one."""
        ...

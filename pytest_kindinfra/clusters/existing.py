"""A cluster that was there before the run and stays: only what this run put into it is deleted.

Where it is a kind cluster of this host, its kind nodes are another provider's business. It must
not know the API of Kubernetes: who finds and deletes objects is given to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.timeline import Deadline


class Objects(Protocol):
    """What a run put into a cluster."""

    def remove(self, kubeconfig: Path, deadline: Deadline) -> None:
        """Delete all of it.

        Raises:
            CommandError: Something could not be deleted.
        """
        ...

    def remove_command(self) -> Sequence[str]:
        """Return what a person types to delete it."""
        ...


class Existing:
    """One existing cluster, as the provider of a run.

    Args:
        provider: Who knows the kind nodes of this host.
        objects: What the run puts there.
        nodes: Its kind nodes; none if it is not a kind cluster of this host.
    """

    def __init__(self, provider: Provider, objects: Objects, nodes: Sequence[str]) -> None:
        self._provider = provider
        self._objects = objects
        self._nodes = tuple(nodes)

    def __getattr__(self, name: str) -> Any:
        """Return what is said of kind nodes, which is no other than of those that we make."""
        return getattr(self._provider, name)

    def check(self, deadline: Deadline) -> str:
        """See `Provider.check`; kind is needed for its kind nodes only."""
        return self._provider.check(deadline) if self._nodes else ""

    def exists(self, name: str, deadline: Deadline) -> bool:  # noqa: ARG002 - the protocol's
        """See `Provider.exists`: it was there before."""
        return True

    def nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's
        """See `Provider.nodes`."""
        return self._nodes

    def export_logs(self, name: str, folder: Path, deadline: Deadline) -> None:
        """See `Provider.export_logs`."""
        if self._nodes:
            self._provider.export_logs(name, folder, deadline)

    def delete(self, name: str, *, kubeconfig: Path, deadline: Deadline) -> None:  # noqa: ARG002 - the protocol's
        """See `Provider.delete`: what is ours goes, the cluster stays."""
        self._objects.remove(kubeconfig, deadline)

    def delete_command(self, name: str) -> Sequence[str]:  # noqa: ARG002 - the protocol's
        """See `Provider.delete_command`."""
        return self._objects.remove_command()

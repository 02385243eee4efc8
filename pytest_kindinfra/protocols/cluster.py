"""What providers of clusters can do, and what can be done in kind nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedCluster:
    """A cluster as its containers show it, whether it works or not.

    Attributes:
        nodes: The names of the kind nodes' containers.
        running: All of them run.
        folder: The run directory, or directory of a reused cluster, that is mounted in the kind
            nodes; None if no run of this project created the cluster.
        host_ports: Port of a kind node to port of this host.
        hosts: Port of a kind node to the address on which its port is reached.
    """

    nodes: tuple[str, ...]
    running: bool
    folder: Path | None
    host_ports: dict[int, int]
    hosts: dict[int, str] = field(default_factory=dict)


class KindNodes(Protocol):
    """Works in kind nodes, of any cluster."""

    def images_in(self, node: str, deadline: Deadline) -> frozenset[str]:
        """Return the full references of the images that a kind node has."""
        ...

    def blobs_in(self, node: str, deadline: Deadline) -> frozenset[str]:
        """Return the digests of what a kind node's content store holds: `sha256:...`."""
        ...

    def forget_images(self, node: str, references: Sequence[str], deadline: Deadline) -> None:
        """Have a kind node no longer list these images, of which it may have only parts."""
        ...

    def name_image(self, node: str, name: str, reference: str, deadline: Deadline) -> None:
        """Give an image of a kind node the name by which pods ask for `reference`.

        Args:
            node: The kind node.
            name: What the image is called there.
            reference: What it is to be called as well, such as `NAME:TAG@DIGEST`.
            deadline: When to give up.

        Raises:
            CommandError: The kind node has no such image.
        """
        ...

    def pull(self, node: str, name: str, deadline: Deadline) -> str:
        """Have a kind node pull an image from a registry that it was opened to.

        Raises:
            CommandError: It could not.
        """
        ...

    def import_command(self, node: str) -> tuple[str, ...]:
        """Return the command that reads an image archive from its standard input."""
        ...

    def node_address(self, node: str, deadline: Deadline, *, ipv6: bool = False) -> str:
        """Return the kind node's own address, as seen from this host."""
        ...

    def machine_id(self, node: str, deadline: Deadline) -> str:
        """Return the id that a kind node made for itself, which its kubelet tells the cluster."""
        ...

    def await_end(self, node: str, deadline: Deadline) -> str:
        """Return when a kind node has stopped or is gone, with what is known of that.

        Raises:
            CancelledError: The run is ending.
        """
        ...


class Provider(Protocol):
    """Knows the cluster of a run, and removes what the run put on this host or into it."""

    def check(self, deadline: Deadline) -> str:
        """Return the provider's version; empty if it needs no program.

        Raises:
            NothingHereError: It is not installed.
        """
        ...

    def exists(self, name: str, deadline: Deadline) -> bool:
        """Whether there is a cluster of exactly this name."""
        ...

    def nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        """Return the names of a cluster's kind nodes."""
        ...

    def image_ready_nodes(self, name: str, deadline: Deadline) -> tuple[str, ...]:
        """Return the kind nodes whose container runtime answers, also during `create`."""
        ...

    def export_logs(self, name: str, folder: Path, deadline: Deadline) -> None:
        """Write what the kind nodes know of themselves into `folder`."""
        ...

    def delete(self, name: str, *, kubeconfig: Path, deadline: Deadline) -> None:
        """Delete what the run made: the cluster, or its objects in an existing one.

        Nothing happens if there is none.

        Raises:
            CommandError: It could not be deleted.
        """
        ...

    def delete_command(self, name: str) -> Sequence[str]:
        """Return what a person types to delete it."""
        ...


class ClusterCreator(Provider, Protocol):
    """Creates clusters on this host, and finds those that other runs created."""

    def create(
        self, name: str, *, config: dict[str, Any], kubeconfig: Path, deadline: Deadline
    ) -> tuple[str, ...]:
        """Create a cluster and return the names of its kind nodes.

        Its API server answers; whether it is ready for pods is for the caller to see.

        Raises:
            ClusterError: It could not be created; what was made of it may still be there.
        """
        ...

    def observe(self, name: str, deadline: Deadline) -> ObservedCluster | None:
        """Return what containers show of the cluster of exactly this name, None if it has none."""
        ...

    def run_directories(self, deadline: Deadline) -> dict[str, Path]:
        """Return the clusters that runs created: name to the run's folder."""
        ...

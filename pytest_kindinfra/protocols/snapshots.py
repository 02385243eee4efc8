"""Snapshots of kind nodes, and who keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotNotes:
    """What a snapshot says of itself.

    Attributes:
        key: What a cluster must be made of to be restored from it.
        made: When it was made, in seconds since the epoch.
        node_image: What kind was given, or chose.
        node_image_id: The engine's id of that.
        images: References of the images that were loaded for it; empty if that is not known.
        parts: What the key was made from: see `clusters.snapshot.made_of`.
        credentials: Where credentials of the user's come from that the kind node had.
        container: How the kind node's container was made; see `engines.snapshots`.
    """

    key: str
    made: float
    node_image: str
    node_image_id: str
    images: tuple[str, ...]
    parts: dict[str, str]
    credentials: tuple[str, ...]
    container: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSnapshot:
    """A snapshot that the engine has.

    Attributes:
        reference: Its name in the engine; empty for one whose name another has by now.
        id: The engine's id of it.
        size: Bytes beyond those of its node image.
        notes: What it says of itself; None if that cannot be read.
    """

    reference: str
    id: str
    size: int
    notes: SnapshotNotes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContainer:
    """The container of a kind node that is to be restored.

    Attributes:
        name: The container's name.
        cluster: kind's name for the cluster.
        binds: Mounts in addition to those that kind itself makes: `HOST:CONTAINER[:OPTIONS]`.
        ports: Port with protocol, `6443/tcp`, to address and port of this host; 0 is any.
    """

    name: str
    cluster: str
    binds: tuple[str, ...]
    ports: dict[str, tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A kind node's state, copied into a container that is to become a snapshot.

    Attributes:
        container: That container's id.
        node_image: See `SnapshotNotes`.
        node_image_id: See `SnapshotNotes`.
        template: How the kind node's container was made.
    """

    container: str
    node_image: str
    node_image_id: str
    template: dict[str, Any]


class Snapshots(Protocol):
    """Keeps snapshots of kind nodes as images of an engine.

    All calls raise an `EngineError` if the engine does not answer or refuses.
    """

    def kind_of_engine(self, deadline: Deadline) -> str:
        """Return what of the engine a restored kind node depends on: `x86_64 cgroup1 overlay2`."""
        ...

    def all(self, deadline: Deadline) -> list[StoredSnapshot]:
        """Return the snapshots that the engine has, the newest first."""
        ...

    def find(self, reference: str, deadline: Deadline) -> StoredSnapshot | None:
        """Return the snapshot of that name, None if there is none."""
        ...

    def image_id(self, reference: str, deadline: Deadline) -> str | None:
        """Return the id of an image, None if the engine has it not."""
        ...

    def pack(self, node: str, own: Container[str], *, lock: Path, deadline: Deadline) -> Packed:
        """Copy what a kind node keeps on its disk; the node stands still meanwhile.

        Args:
            node: The kind node; nothing of a test may be in it.
            own: Paths in the kind node of mounts that are of its cluster alone.
            lock: Held by the caller; what is left of the copy may go once it is free.
            deadline: When to give up.
        """
        ...

    def keep(
        self, packed: Packed, reference: str, notes: SnapshotNotes, deadline: Deadline
    ) -> None:
        """Make a snapshot of what was packed; whatever had the name before loses it."""
        ...

    def discard(self, packed: Packed) -> None:
        """Remove the copy; nothing happens if it is gone."""
        ...

    def remove_unfinished(self, lock: Path, deadline: Deadline) -> None:
        """Remove what was left of copies that were started under a lock, which the caller holds."""
        ...

    def restore(self, snapshot: StoredSnapshot, node: NodeContainer, deadline: Deadline) -> bytes:
        """Make a kind node of a snapshot, start it, and return its admin's kubeconfig.

        Raises:
            PortTakenError: Another program has one of the ports.
        """
        ...

    def run_in(self, node: str, words: Sequence[str], deadline: Deadline) -> tuple[int, str]:
        """Run a short command in a kind node; return its exit code and what it printed."""
        ...

    def remove(self, snapshot: StoredSnapshot, deadline: Deadline) -> None:
        """Remove a snapshot."""
        ...

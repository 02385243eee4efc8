"""What an engine, a cluster provider and a registry can do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import ObservedCluster, Registry
    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One image to build.

    Attributes:
        name: The declared name.
        reference: What to tag the result.
        context: The build context.
        dockerfile: The Dockerfile; an ignore file `NAME.dockerignore` next to it applies.
        target: The stage, None for the last.
        build_args: Name to value.
        unshown: Names of build arguments whose values belong into no command.
        contexts: Named contexts: the name in FROM to the reference of an image.
        options: Further flags.
        bases: The other images that it starts from, as the Dockerfile names them.
        folder: Where relative paths in `options` start; None means the current folder.
        source: The Dockerfile that the user wrote, for messages; None means `dockerfile`.
    """

    name: str
    reference: str
    context: Path
    dockerfile: Path
    target: str | None
    build_args: dict[str, str]
    unshown: frozenset[str]
    contexts: dict[str, str]
    options: tuple[str, ...]
    bases: tuple[str, ...] = ()
    folder: Path | None = None
    source: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnImage:
    """An image that the engine has and that was built by us.

    Attributes:
        name: The declared name that it was built under.
        references: All its names.
        since: When it was made or last named, in seconds since the epoch.
    """

    name: str
    references: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageContent:
    """What an image holds.

    Attributes:
        digest: A hash of its layers, its configuration and its platform, in hexadecimal. Times of
            creation do not count, and it is the same in each engine and image store.
        names: All references that the engine has for it.
    """

    digest: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSize:
    """How large an image is.

    Attributes:
        size: Bytes, of all its layers.
        layers: What names its layers.
    """

    size: int
    layers: tuple[str, ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What `kindinfra doctor` found of one thing.

    Attributes:
        state: `missing` is what no cluster comes up without, `warning` what may be in the way.
        what: The thing.
        said: What is known of it.
        fix: What to do about it; empty for what is well.
    """

    state: Literal["ok", "warning", "missing"]
    what: str
    said: str
    fix: str = ""

    @property
    def lines(self) -> list[str]:
        """Return the lines that show it."""
        head = f"{self.state:<8} {self.what:<12} {self.said}"
        return [head, f"{'':<8} {'':<12} To fix: {self.fix}"] if self.fix else [head]

    @property
    def record(self) -> dict[str, str]:
        """The same for JSON."""
        return asdict(self)


class Engine(Protocol):
    """Builds and exports images."""

    @property
    def name(self) -> str:
        """What the user calls it, its program, and what kind calls it: `docker`, `podman`."""
        ...

    @property
    def runs_registries(self) -> bool:
        """Whether images can go through a registry in a container of the engine."""
        ...

    @property
    def stops_slowly(self) -> bool:
        """Whether it waits for kind nodes to end, so that deletion has to kill them first."""
        ...

    def check(self, deadline: Deadline) -> str:
        """Return the engine's version.

        Raises:
            NothingHereError: It is not installed, or no process listens on its local socket.
            EngineError: It is there, but refused, did not answer in time, or is too old.
        """
        ...

    def disk_root(self, environ: Mapping[str, str]) -> Path | None:
        """Return the folder of this host where it keeps all it has; None if that is unknown.

        Args:
            environ: The environment, which may lead to another engine.
        """
        ...

    def host_problem(self, environ: Mapping[str, str]) -> str | None:
        """Return a sentence if it is on another host, where tests cannot reach a cluster.

        Args:
            environ: The environment, which may lead to another engine.
        """
        ...

    def examine(self, deadline: Deadline) -> Iterator[Finding]:
        """Yield what `kindinfra doctor` says of it and of what it needs; the first is itself."""
        ...

    def foreign_options(self, options: Sequence[str]) -> tuple[str, ...]:
        """Return those of the flags of `docker buildx build` that it cannot take."""
        ...

    def shares_images(self, builder: str, deadline: Deadline) -> bool:
        """Return whether a builder sees the images that the engine has.

        Raises:
            KindInfraError: There is no such builder, or the engine has none but its own.
        """
        ...

    def image_ids(self, references: Sequence[str], deadline: Deadline) -> dict[str, str]:
        """Return the ids of those images that the engine has, by reference as given."""
        ...

    def image_contents(
        self, references: Sequence[str], deadline: Deadline
    ) -> dict[str, ImageContent]:
        """Return what those images hold that the engine has, by reference as given."""
        ...

    def image_sizes(self, references: Sequence[str], deadline: Deadline) -> dict[str, ImageSize]:
        """Return the sizes of those images that the engine has, by reference as given."""
        ...

    def build(self, request: BuildRequest, *, deadline: Deadline, log: Path) -> None:
        """Build and tag one image; what the build prints goes to `log` as it comes.

        Raises:
            CommandError: The build failed.
        """
        ...

    def load(self, archive: Path, deadline: Deadline) -> str:
        """Take the one image of an archive, and return its name or id.

        Raises:
            CommandError: The engine cannot read it.
            KindInfraError: It holds several images, or none.
        """
        ...

    def tag(self, reference: str, name: str, deadline: Deadline) -> None:
        """Give an image another name; whatever had that name before loses it.

        Raises:
            CommandError: There is no such image, or it cannot have that name.
        """
        ...

    def save(self, reference: str, archive: Path, deadline: Deadline) -> None:
        """Write an archive with one image, in place of an existing file.

        Raises:
            CommandError: There is no such image, or it could not be written.
        """
        ...

    def pull(self, reference: str, deadline: Deadline) -> None:
        """Pull an image from the registry that its reference names.

        Raises:
            CommandError: The registry cannot be reached, does not have it, or refuses; names the
                remedy.
        """
        ...

    def push(self, name: str, deadline: Deadline) -> str:
        """Push an image to the registry that its name begins with; return what was printed.

        Raises:
            CommandError: There is no such image, or the registry does not take it.
        """
        ...

    def digest_of(self, name: str, deadline: Deadline) -> str | None:
        """Return the digest by which a registry has an image; None if it does not have it.

        Args:
            name: `REGISTRY/NAME:TAG`; the engine's own configuration has the credentials.
            deadline: When to give up.

        Raises:
            CommandError: The registry cannot be reached, or refuses; names the remedy.
            EngineError: The engine cannot ask registries.
        """
        ...

    def own_images(self, deadline: Deadline) -> list[OwnImage]:
        """Return the images with our label.

        Raises:
            CommandError: The engine did not say.
        """
        ...

    def remove(self, reference: str, deadline: Deadline) -> None:
        """Take a name from an image, and remove the image if that was its last one.

        Raises:
            CommandError: A container uses it.
        """
        ...

    def save_command(self, references: Sequence[str]) -> tuple[str, ...]:
        """Return the command that prints an archive of these images."""
        ...


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

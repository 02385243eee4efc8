"""What this machine has to offer a run: a name, free ports, room on the engine's disk, locks."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.clusters.config import loopback
from pytest_kindinfra.clusters.sweep import sweep
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.references import name_in_node
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.memory import read_sizes
from pytest_kindinfra.state.reused import refusal, why_unclear
from pytest_kindinfra.system.files import family_of
from pytest_kindinfra.system.machine import file_system_of, listener_of
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.context import Request, Tools
    from pytest_kindinfra.model import Image, Plan, PortMapping
    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.protocols.cluster import ClusterCreator, ObservedCluster
    from pytest_kindinfra.protocols.engine import Engine, ImageSize
    from pytest_kindinfra.state.memory import Layers


def busy_ports(mappings: Iterable[PortMapping], *, address: str = "127.0.0.1") -> tuple[str, ...]:
    """Return a sentence for each fixed host port that another process has on an address."""
    return tuple(
        f'[services.{one.service}] endpoint "{one.endpoint}": host port {one.host_port} is busy'
        f"{_listener(one.host_port)}"
        for one in mappings
        if one.host_port and _is_taken(address, one.host_port)
    )


def _is_taken(address: str, port: int) -> bool:
    """Whether it is in use; other refusals (a port below 1024) are not the engine's."""
    with suppress(OSError), socket.socket(family_of(address)) as listener:
        # As the engine binds: a connection that was closed a moment ago does not count.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _listener(port: int) -> str:
    """Return which process listens on a port, as the end of a sentence; empty if unknown."""
    if (found := listener_of(port)) is None:
        return ""
    process, command = found
    return f", held by process {process}: {command.strip()[:120]}"


NODE_BYTES = 600_000_000
"""What a kind node takes before anything is loaded: its own images, unpacked logs, etcd's log of
64 MB. Measured with Kubernetes 1.34: 0.38 GB at its first second, 0.5 GB when it takes pods."""


_FIX = "to fix: free some space, for example with kindinfra gc --images"


_PLENTY = 50_000_000_000
"""Free bytes with which it is not asked how much images take."""


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
    """Return why the engine's disk has no room for a run; None if it has or that is unknown.

    Args:
        root: Where the engine keeps all it has, None if that is unknown.
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


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB"


NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "fuse.sshfs"})


def network_problem(folder: Path) -> str | None:
    """Return why locks in `folder` cannot be relied on, None if they can or that is unknown.

    Args:
        folder: Where locks would be; it need not be there yet.
    """
    kind = file_system_of(folder)
    return _refusal(folder, kind) if kind in NETWORK else None


def _refusal(folder: Path, kind: str) -> str:
    return (
        f"{folder} is on a network file system ({kind}), where locks may not work; "
        "to fix: --kindinfra-artifacts=DIR on a local disk"
    )


_COPIES = 2
"""A kind node has each layer as it was sent, and unpacked."""


def estimate_room(plan: Plan, *, cache: Path | None, engine: Engine, deadline: Deadline) -> Room:
    """Return how much room the images of a plan will take, as far as anything is known of them.

    Args:
        plan: What will be loaded, and built.
        cache: The cache folder; None if there is none.
        engine: What it has is asked; one that does not answer has nothing.
        deadline: When to give up.
    """
    folder = plan.declaration.folder
    known = read_sizes(cache, folder) if cache else {}
    used = {name for service in plan.services for name in service.images}
    images = [image for image in plan.images if image.name in used]
    there = {ref for refs in plan.external.values() for ref in refs}
    there |= {image.prebuilt for image in images if image.prebuilt}
    names = {image.name for image in images} | {name_in_node(ref) for ref in there}
    layers = _together(known[name] for name in names if name in known)
    unknown = [ref for ref in sorted(there) if name_in_node(ref) not in known]
    size = sum(layers.values()) + _of_engine(unknown, layers, engine, deadline)
    size = max(size, *(_archive_size(folder, image) for image in images), 0)
    return Room(in_node=_COPIES * size, builds=_of_builds(images, known, engine, deadline))


def _together(images: Iterable[Layers]) -> Layers:
    return {digest: size for layers in images for digest, size in layers.items()}


def _of_engine(
    references: list[str], known: Mapping[str, int], engine: Engine, deadline: Deadline
) -> int:
    """Return what images of the engine take except `known`, the largest of those that share."""
    found: list[ImageSize] = []
    with suppress(KindInfraError):
        found = list(engine.image_sizes(references, deadline).values())
    total, seen = 0, set(known)
    for image in sorted(found, key=lambda one: one.size, reverse=True):
        if seen.isdisjoint(image.layers):
            total += image.size
        seen.update(image.layers)
    return total


def _of_builds(
    images: list[Image], known: Mapping[str, Layers], engine: Engine, deadline: Deadline
) -> int:
    """Return what builds add to an engine that has never built these images."""
    built = [image for image in images if not (image.prebuilt or image.archive)]
    if not any(image.name in known for image in built):
        return 0
    with suppress(KindInfraError):
        there = {image.name for image in engine.own_images(deadline)}
        had = _together(known[name] for name in there & known.keys())
        new = _together(known[one.name] for one in built if one.name in known.keys() - there)
        return sum(size for digest, size in new.items() if digest not in had)
    return 0


def _archive_size(folder: Path, image: Image) -> int:
    if image.archive is None:
        return 0
    try:
        return (folder / image.archive).stat().st_size
    except OSError:
        return 0


_SWEEP_SECONDS = 120.0


_LOOK_SECONDS = 30.0


_ASK_SECONDS = 20.0


def problems_of_host(
    plan: Plan, request: Request, settings: Settings, tools: Tools
) -> Iterator[str]:
    """Yield what makes a run impossible on this host: a name or ports taken, no room."""
    address = loopback(request.kind_config)
    if settings.kubeconfig is not None:
        yield from _busy_ports(plan, tools.creator, own_ports=(), address=address)
        return
    if elsewhere := tools.engine.host_problem(os.environ):
        yield elsewhere
        return
    there = _observe(request, tools.creator)
    yield from _problems_of_name(request, tools.creator, there)
    own_ports = there.host_ports.values() if there else ()
    yield from _busy_ports(plan, tools.creator, own_ports=own_ports, address=address)
    if there is None:
        yield from _problems_of_room(plan, request, tools)


def _problems_of_name(
    request: Request, creator: ClusterCreator, there: ObservedCluster | None
) -> Iterator[str]:
    """Yield a sentence if a cluster has the name, and must not be replaced or reused."""
    if there and there.folder is None:
        delete = " ".join(creator.delete_command(request.cluster))
        yield (
            f'there is already a cluster "{request.cluster}", which no run of pytest-kindinfra '
            f"created; to fix: choose another --kindinfra-cluster-name, or delete it: {delete}"
        )
    yield from _unclear(request, creator, there)


def _problems_of_room(plan: Plan, request: Request, tools: Tools) -> Iterator[str]:
    """Yield a sentence if the disk of the chosen engine has no room for the run."""
    nodes = len((request.kind_config or {}).get("nodes") or ({},))
    room = partial(
        estimate_room,
        plan,
        cache=request.cache,
        engine=tools.engine,
        deadline=Deadline.after(_LOOK_SECONDS),
    )
    root = tools.engine.disk_root(os.environ)
    if problem := disk_problem(root, nodes=nodes, images=room):
        yield problem


def _unclear(
    request: Request, creator: ClusterCreator, there: ObservedCluster | None
) -> Iterator[str]:
    """Yield a sentence if it is unknown whether the cluster of that name is in use."""
    if there is None or there.folder is None:
        return
    why = why_unclear(RunDirectory(there.folder), request.cluster)
    if why and _observe(request, creator) == there:  # else it was deleted meanwhile
        text = refusal(request.cluster, why, creator.delete_command(request.cluster))
        yield text.replace("\nTo fix:", "; to fix:")  # one line, as all problems are


def _observe(request: Request, creator: ClusterCreator) -> ObservedCluster | None:
    """Return the cluster of that name; one named after the run's id cannot be there."""
    if not request.named:
        return None
    with suppress(KindInfraError):  # what is missing is reported when the bring-up begins
        return creator.observe(request.cluster, Deadline.after(_ASK_SECONDS))
    return None


def _busy_ports(
    plan: Plan, creator: ClusterCreator, *, own_ports: Collection[int], address: str
) -> tuple[str, ...]:
    """Return a sentence for each fixed host port that is busy, but not for a killed run's.

    Args:
        plan: Says which ports are fixed.
        creator: Knows killed runs.
        own_ports: Those of the cluster that this run reuses or replaces.
        address: The address of this host to which they are mapped.
    """
    ports = [one for one in plan.ports if one.host_port not in own_ports]
    if busy := busy_ports(ports, address=address):
        with suppress(KindInfraError):
            sweep(creator, Deadline.after(_SWEEP_SECONDS))
            busy = busy_ports(ports, address=address)
    return busy

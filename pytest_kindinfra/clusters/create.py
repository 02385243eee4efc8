"""Create the cluster with a port on this host for every endpoint.

The caller holds the lock of the host if possible: two `kind create` at a time may both make
the network "kind" (kind#1596), or be given the same free port. A program that knows nothing of that
lock can still take a port before the engine does; then others are chosen.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.config import (
    DNS_PATCH,
    PATCHES,
    dns_patch,
    hosts_of,
    kind_config,
    loopback,
    user_ports,
)
from pytest_kindinfra.errors import ClusterError, PortTakenError
from pytest_kindinfra.model import Cluster, Phase
from pytest_kindinfra.state.clusterrecords import ClusterNamed
from pytest_kindinfra.state.locks import locked_for_all_users
from pytest_kindinfra.system.files import free_port
from pytest_kindinfra.system.timeline import now, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.model import Plan, PortMapping
    from pytest_kindinfra.protocols.cluster import ClusterCreator
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.timeline import Deadline, Timeline


_TRIES = 3


@contextmanager
def turn_to_create(
    *, timeline: Timeline, queue: Deadline, say: Callable[[str], object]
) -> Iterator[None]:
    """Have no other run of this host create a cluster in the block, as long as the queue allows.

    Args:
        timeline: Gets the wait for the turn as a phase, if there is one.
        queue: When to go on without the turn (docs/decisions/0034).
        say: Gets a sentence about the wait.

    Raises:
        CancelledError: The run is ending.
    """
    start, waits = now(), []

    def note(text: str) -> None:
        waits.append(text)
        say(text)

    with locked_for_all_users("create", queue, say=note, option="--kindinfra-timeout"):
        if waits:
            timeline.add(Phase(kind="queue", subject="cluster", start=start, end=now()))
        yield


def create_cluster(  # noqa: PLR0913 - named, as in a form
    name: str,
    *,
    plan: Plan,
    base: dict[str, Any] | None,
    node_image: str | None,
    tuning: bool,
    run: RunDirectory,
    folder: Path,
    creator: ClusterCreator,
    begun: Callable[[int], object],
    deadline: Deadline,
    make: Callable[..., tuple[str, ...]] | None = None,
) -> Cluster:
    """Create the cluster and return it; its API server answers. Call it in `turn_to_create`.

    Args:
        name: kind's name for it.
        plan: Says which NodePorts are mapped.
        base: The user's kind config, parsed.
        node_image: None means kind's own choice.
        tuning: Boot faster than kind does.
        run: The run directory, which gets the kubeconfig.
        folder: Where relative paths of `base` start.
        creator: Who knows clusters, and deletes what was made in vain.
        begun: Called with the number of kind nodes that are being made, at each try.
        deadline: When to give up.
        make: Makes the kind nodes, as `ClusterCreator.create` does; None means the creator's own.

    Raises:
        ClusterError: It could not be created, or another program created a cluster of that name.
    """
    deadline.check()
    if creator.exists(name, deadline):
        msg = (
            f'there is already a cluster "{name}"\n'
            f"To fix: choose another --kindinfra-cluster-name, or delete it: "
            f"{' '.join(creator.delete_command(name))}"
        )
        raise ClusterError(msg)
    # From here on this run deletes the cluster of that name, whatever happens.
    run.write(ClusterNamed(name=name))
    if tuning:
        _write_patches(base or {}, run.path / PATCHES)

    def create() -> Cluster:
        ports = choose_host_ports(plan.ports, mapped=user_ports(base), address=loopback(base))
        config = kind_config(
            base, ports=ports, node_image=node_image, tuning=tuning, folder=folder, run=run.path
        )
        begun(len(config["nodes"]))
        makes = make or creator.create
        nodes = makes(name, config=config, kubeconfig=run.kubeconfig, deadline=deadline)
        return Cluster(
            name=name,
            kubeconfig=run.kubeconfig,
            nodes=nodes,
            host_ports=ports,
            hosts=hosts_of(config),
            owned=True,
        )

    def delete(_: PortTakenError) -> None:
        creator.delete(name, kubeconfig=run.kubeconfig, deadline=deadline)

    return retry(create, tries=_TRIES, on=PortTakenError, between=delete)


def _write_patches(base: Mapping[str, Any], folder: Path) -> None:
    """Write what kubeadm applies to what it deploys itself."""
    folder.mkdir(exist_ok=True)
    (folder / DNS_PATCH).write_text(json.dumps(dns_patch(base)))


def choose_host_ports(
    mappings: Collection[PortMapping], *, mapped: Mapping[int, int], address: str = "127.0.0.1"
) -> dict[int, int]:
    """Return a port of this host for each NodePort: the declared one, or a free one.

    Args:
        mappings: What is to be mapped.
        mapped: NodePort to host port as the user's own kind config maps them.
        address: On which free ones are looked for.
    """
    declared = {mapping.host_port for mapping in mappings} | set(mapped.values())
    with ExitStack() as sockets:  # all at once, so that no free port is found twice
        return {
            mapping.node_port: mapped.get(mapping.node_port)
            or mapping.host_port
            or free_port(sockets, declared, address=address)
            for mapping in mappings
        }

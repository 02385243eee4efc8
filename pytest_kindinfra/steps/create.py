"""Create the cluster with a port on this host for every endpoint.

Ports are chosen and the cluster is made under one lock per host: two `kind create` at a time
may both make the network "kind" (kind#1596), or be given the same free port. A program that knows
nothing of that lock can still take a port before the engine does; then others are chosen. A step
must not know another step.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.coordination import host_lock, is_held, locked
from pytest_kindinfra.errors import ClusterError, PortTakenError
from pytest_kindinfra.freeports import free_port
from pytest_kindinfra.kindconfig import PATCHES, kind_config, user_ports
from pytest_kindinfra.model import Cluster
from pytest_kindinfra.tuning import DNS_PATCH, dns_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.model import Plan, PortMapping
    from pytest_kindinfra.timeline import Deadline, Timeline

QUEUE = 10
"""How many times the cluster's own time a run waits for its turn to create it."""

_TRIES = 3


@contextmanager
def turn_to_create(name: str, *, timeline: Timeline, queue: Deadline) -> Iterator[None]:
    """Have no other run of this host create a cluster in the block: one after the other does.

    Args:
        name: kind's name for the cluster that is to be created.
        timeline: Gets the wait for the turn as a phase, if there is one.
        queue: When to give up waiting.

    Raises:
        ClusterError: The turn did not come.
    """
    path, seconds = host_lock("create"), queue.left
    with ExitStack() as held:
        with timeline.span("queue", "cluster") if is_held(path) else nullcontext():
            try:
                held.enter_context(locked(path, queue))
            except ClusterError as error:
                msg = (
                    f'cluster "{name}" had no turn to be created within {seconds:.0f} s: the runs '
                    f"of this host create theirs one after the other, and one of them holds {path}"
                    "\nTo fix: run fewer at a time, end the one that hangs, or give more time by "
                    f"--kindinfra-timeout (the queue gets {QUEUE} times its seconds)"
                )
                raise ClusterError(msg) from error
        yield


def create_cluster(
    name: str,
    *,
    plan: Plan,
    base: dict[str, Any] | None,
    node_image: str | None,
    tuning: bool,
    run: RunDirectory,
    folder: Path,
    provider: Provider,
    begun: Callable[[int], object],
    deadline: Deadline,
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
        provider: Who creates.
        begun: Called with the number of kind nodes that are being made, at each try.
        deadline: When to give up.

    Raises:
        ClusterError: It could not be created, or a cluster of that name is not ours.
    """
    deadline.check()
    if provider.exists(name, deadline):
        msg = (
            f'there is already a cluster "{name}"\n'
            f"To fix: choose another --kindinfra-cluster-name, or delete it: "
            f"{' '.join(provider.delete_command(name))}"
        )
        raise ClusterError(msg)
    # From here on a cluster of that name is ours to delete, whatever happens.
    run.write("cluster-name", {"name": name})
    if tuning:
        _write_patches(base or {}, run.path / PATCHES)
    for further_tries in reversed(range(_TRIES)):
        ports = choose_host_ports(plan.ports, taken=user_ports(base))
        config = kind_config(
            base, ports=ports, node_image=node_image, tuning=tuning, folder=folder, run=run.path
        )
        begun(len(config["nodes"]))
        try:
            nodes = provider.create(
                name, config=config, kubeconfig=run.kubeconfig, deadline=deadline
            )
            break
        except PortTakenError:
            if not further_tries:
                raise
            provider.delete(name, kubeconfig=run.kubeconfig, deadline=deadline)
    return Cluster(name=name, kubeconfig=run.kubeconfig, nodes=nodes, host_ports=ports, owned=True)


def _write_patches(base: Mapping[str, Any], folder: Path) -> None:
    """Write what kubeadm applies to what it deploys itself."""
    folder.mkdir(exist_ok=True)
    (folder / DNS_PATCH).write_text(json.dumps(dns_patch(base)))


def choose_host_ports(
    mappings: Collection[PortMapping], *, taken: Mapping[int, int]
) -> dict[int, int]:
    """Return a port on 127.0.0.1 for each NodePort: the declared one, or a free one.

    Args:
        mappings: What is to be mapped.
        taken: NodePort to host port as the user's own kind config maps them.
    """
    declared = {mapping.host_port for mapping in mappings} | set(taken.values())
    with ExitStack() as held:  # all at once, so that no free port is found twice
        return {
            mapping.node_port: taken.get(mapping.node_port)
            or mapping.host_port
            or free_port(held, declared)
            for mapping in mappings
        }

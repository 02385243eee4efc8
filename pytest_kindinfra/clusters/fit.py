"""Whether a cluster of an earlier run fits a plan: how it was made, and its ports. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.config import kind_config
from pytest_kindinfra.state.clusterrecords import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_kindinfra.model import Plan, PortMapping


_DIGITS = 16


def fingerprint_of(
    base: Mapping[str, Any] | None,
    *,
    node_image: str | None,
    provider: str,
    tuning: bool,
    folder: Path,
    ports: Iterable[PortMapping] = (),
) -> Fingerprint:
    """Return the fingerprint of a cluster that is created with these options.

    Args:
        base: The user's kind config, parsed.
        node_image: None means the provider's own choice.
        provider: The provider's version, on which that choice depends.
        tuning: Boot faster than kind does.
        folder: Where relative paths of `base` start.
        ports: As the plan has them.
    """
    known = tuple(ports)
    plain = kind_config(base, ports={}, node_image=None, tuning=False, folder=folder)
    for node in plain["nodes"]:
        if node.get("image") == node_image:  # said of the run, and told as such
            node.pop("image", None)
    tuned = kind_config(base, ports={}, node_image=None, tuning=True, folder=folder)
    return Fingerprint(
        config=_hash(plain),
        node_image=node_image or f"the one of {provider}",
        tuning=_hash(tuned.get("kubeadmConfigPatches")) if tuning else "",
        ports={_key(one): one.node_port for one in known if one.endpoint},
        spare=tuple(one.node_port for one in known if not one.service),
    )


def difference(before: Fingerprint, wanted: Fingerprint) -> str:
    """Return why a cluster must be created again; empty if it can be reused."""
    if before.config != wanted.config:
        return "the kind config has changed"
    if before.node_image != wanted.node_image:
        return f"its node image was {before.node_image}, now it is {wanted.node_image}"
    if before.tuning != wanted.tuning:
        return "tuning has changed"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortFit:
    """How the ports of a plan fit an existing cluster.

    Attributes:
        ports: The mappings of the plan with the NodePorts that the cluster has for them.
        why_not: Why they do not fit; empty if they do.
    """

    ports: tuple[PortMapping, ...] = ()
    why_not: str = ""


def fit_ports(plan: Plan, before: Fingerprint, host_ports: Mapping[int, int]) -> PortFit:
    """Return the plan's ports as a cluster can give them.

    What had a port keeps it, and with it the host port. What is new takes a spare one.

    Args:
        plan: What is to be reached.
        before: What the cluster was made with.
        host_ports: Its NodePorts to ports of this host.
    """
    wanted = [one for one in plan.ports if one.service]
    written = _written(plan)
    fixed = {one.node_port for one in wanted if one.in_manifest or _key(one) in written}
    used = {*before.ports.values(), *fixed}
    free = [port for port in before.spare if port not in used and port in host_ports]
    fitting = []
    for one in wanted:
        node_port: int | None = one.node_port
        if one.node_port not in fixed:
            node_port = before.ports.get(_key(one))
            if node_port is None or node_port in fixed or node_port not in host_ports:
                node_port = _take_spare(free, one, host_ports)
        if node_port is None:
            return PortFit(why_not=f"{_title(one)} is new, and no spare port of it fits")
        if node_port not in host_ports:
            return PortFit(why_not=f"nodePort {node_port} of {_title(one)} is not mapped in it")
        if one.host_port not in {None, host_ports[node_port]}:
            return PortFit(
                why_not=f"host_port {one.host_port} of {_title(one)} is not mapped in it"
            )
        fitting.append(replace(one, node_port=node_port))
    return PortFit(ports=tuple(fitting))


def with_ports(before: Fingerprint, ports: Iterable[PortMapping]) -> Fingerprint:
    """Return what is known of a cluster, with the ports that endpoints have got by now."""
    now = {_key(one): one.node_port for one in ports if one.endpoint}
    return replace(before, ports={**before.ports, **now})


def _take_spare(free: list[int], one: PortMapping, host_ports: Mapping[int, int]) -> int | None:
    for port in free:
        if one.host_port in {None, host_ports[port]}:
            free.remove(port)
            return port
    return None


def _written(plan: Plan) -> set[str]:
    """Return the endpoints whose NodePort was declared."""
    return {
        f"{service.name}.{spec.name}"
        for service in plan.declaration.services
        for spec in service.endpoints
        if spec.node_port
    }


def _key(one: PortMapping) -> str:
    return f"{one.service}.{one.endpoint}"


def _title(one: PortMapping) -> str:
    return f'endpoint "{_key(one)}"' if one.endpoint else f'service "{one.service}"'


def _hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:_DIGITS]

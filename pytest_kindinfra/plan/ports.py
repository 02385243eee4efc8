"""Give each declared endpoint a NodePort, and say which cannot have one.

The plugin's NodePorts come from the static band, which Kubernetes itself uses last when it chooses
(KEP-3668), so that no chance meeting with a chosen one can happen. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from pytest_kindinfra.kube.objects import node_ports
from pytest_kindinfra.kube.targets import find_port
from pytest_kindinfra.model import PortMapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import EndpointSpec, KubeObject, Service

    Targets = Mapping[tuple[str, str], KubeObject | None]

LOWEST_NODE_PORT = 30000


_HIGHEST_NODE_PORT = 32767


_SPARE_PORTS = 8
"""Mapped although nothing uses them, so that a kept cluster can take a new endpoint."""


class _Claim(NamedTuple):
    """The owner of a port; the same `owner` may want it any number of times."""

    owner: tuple[str, ...]
    place: str


@dataclass(slots=True)
class _Claims:
    """Ports by protocol and number, with all their owners."""

    noun: str
    wanted: dict[tuple[str, int], dict[tuple[str, ...], str]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def add(self, port: int, claim: _Claim, protocol: str = "TCP") -> None:
        self.wanted[protocol, port].setdefault(claim.owner, claim.place)

    def problems(self) -> Iterator[str]:
        for (_, port), places in sorted(self.wanted.items()):
            if len(places) > 1:
                yield f"{self.noun} {port} is taken more than once: {', '.join(places.values())}"

    def taken(self) -> set[int]:
        return {port for _, port in self.wanted}


def allot_ports(
    services: Sequence[Service],
    *,
    objects: Mapping[str, Sequence[KubeObject]],
    targets: Targets,
) -> tuple[tuple[PortMapping, ...], list[str]]:
    """Return a mapping for each endpoint, each further nodePort in manifests, and spare ones.

    Args:
        services: All declared ones, so that the ports do not depend on the selected tests.
        objects: Service to its objects.
        targets: Service and endpoint to the k8s service or workload that it leads to, None if
            that is not known.
    """
    problems: list[str] = []
    claims = _claim_node_ports(services, objects, targets, problems)
    problems += claims.problems()
    problems += _claim_host_ports(services, targets).problems()
    problems += _range_problems(claims)
    free = (port for port in count(LOWEST_NODE_PORT) if port not in claims.taken())
    endpoints = [
        _mapping(service, spec, targets.get((service.name, spec.name)), free)
        for service in services
        for spec in service.endpoints
        if spec.expose in {None, "node-port"}
    ]
    endpoints = list(_with_one_host_port(endpoints, problems))
    others = _other_mappings(services, objects, {port.node_port for port in endpoints})
    spare = [_spare(next(free)) for _ in range(_SPARE_PORTS)]
    return (*endpoints, *others, *spare), problems


def written_node_port(spec: EndpointSpec, target: KubeObject | None) -> int | None:
    """Return the nodePort that an endpoint's k8s service has in its manifest."""
    if target is None or spec.workload is not None:
        return None
    node_port = (find_port(target, spec.port) or {}).get("nodePort")
    return node_port if isinstance(node_port, int) else None


def _mapping(
    service: Service, spec: EndpointSpec, target: KubeObject | None, free: Iterator[int]
) -> PortMapping:
    written = written_node_port(spec, target)
    return PortMapping(
        service=service.name,
        endpoint=spec.name,
        node_port=written or spec.node_port or next(free),
        host_port=spec.host_port,
        in_manifest=written is not None,
    )


def _with_one_host_port(
    mappings: Sequence[PortMapping], problems: list[str]
) -> Iterator[PortMapping]:
    """Yield the mappings, so that two endpoints at one nodePort have the same fixed host port."""
    fixed: dict[int, set[int]] = defaultdict(set)
    for mapping in mappings:
        if mapping.host_port:
            fixed[mapping.node_port].add(mapping.host_port)
    for node_port, host_ports in fixed.items():
        if len(host_ports) > 1:
            ports = " and ".join(map(str, sorted(host_ports)))
            problems.append(
                f"nodePort {node_port} has host_port {ports}; give its endpoints the same host_port"
            )
    for mapping in mappings:
        yield replace(mapping, host_port=min(fixed.get(mapping.node_port, ()), default=None))


def _other_mappings(
    services: Iterable[Service], objects: Mapping[str, Sequence[KubeObject]], mapped: set[int]
) -> Iterator[PortMapping]:
    """Yield the TCP nodePorts in manifests that no endpoint names, each once."""
    for service in services:
        for obj in objects.get(service.name, ()):
            for port in node_ports(obj):
                if port.protocol == "TCP" and port.node_port not in mapped:
                    mapped.add(port.node_port)
                    yield PortMapping(
                        service=service.name,
                        endpoint="",
                        node_port=port.node_port,
                        host_port=None,
                        in_manifest=True,
                    )


def _spare(node_port: int) -> PortMapping:
    return PortMapping(
        service="", endpoint="", node_port=node_port, host_port=None, in_manifest=False
    )


def _claim_node_ports(
    services: Iterable[Service],
    objects: Mapping[str, Sequence[KubeObject]],
    targets: Targets,
    problems: list[str],
) -> _Claims:
    claims = _Claims("nodePort")
    for service in services:
        for obj in objects.get(service.name, ()):
            _claim_written(claims, service, obj)
        for spec in service.endpoints:
            written = written_node_port(spec, targets.get((service.name, spec.name)))
            place = f"[services.{service.name}.endpoints.{spec.name}]"
            if spec.node_port and written is None:
                claims.add(spec.node_port, _Claim(("endpoint", service.name, spec.name), place))
            elif spec.node_port not in {None, written}:
                problems.append(
                    f"{place} node_port is {spec.node_port}, but the manifest has {written}"
                )
    return claims


def _claim_written(claims: _Claims, service: Service, obj: KubeObject) -> None:
    namespace = str(obj["metadata"].get("namespace", ""))
    for port in node_ports(obj):
        # Not the declared service: two may list the same manifest.
        owner = ("manifest", namespace, port.service, str(port.port))
        place = f'[services.{service.name}] k8s service "{port.service}" port {port.port}'
        claims.add(port.node_port, _Claim(owner, place), port.protocol)


def _claim_host_ports(services: Iterable[Service], targets: Targets) -> _Claims:
    claims = _Claims("host_port")
    for service in services:
        for spec in service.endpoints:
            if spec.host_port:
                written = written_node_port(spec, targets.get((service.name, spec.name)))
                # Two endpoints at one nodePort share its one host port.
                owner = (str(written),) if written else (service.name, spec.name)
                place = f"[services.{service.name}.endpoints.{spec.name}]"
                claims.add(spec.host_port, _Claim(owner, place))
    return claims


def _range_problems(claims: _Claims) -> Iterator[str]:
    for (_, port), places in sorted(claims.wanted.items()):
        if not LOWEST_NODE_PORT <= port <= _HIGHEST_NODE_PORT:
            place = next(iter(places.values()))
            allowed = f"{LOWEST_NODE_PORT} to {_HIGHEST_NODE_PORT}"
            yield f"{place} has nodePort {port}, but Kubernetes takes {allowed} only"

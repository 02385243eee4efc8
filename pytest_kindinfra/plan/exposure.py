"""How tests reach an endpoint: what suits a cluster, and what each way takes. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_kindinfra.kube.ingresses import find_route, routes
from pytest_kindinfra.kube.objects import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.model import EndpointSpec, Expose, KubeObject


_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]@]+)(:(?P<port>[1-9]\d{0,4}))?")


WEB_PORTS = {"http": 80, "https": 443}
"""The schemes that an Ingress leads, and where its controller listens for them."""


_HIGHEST_PORT = 65535


def exposed_by(spec: EndpointSpec, *, existing: bool, inside: bool = False) -> Expose:
    """Return how tests reach an endpoint.

    Args:
        spec: The endpoint.
        existing: The cluster existed before the run.
        inside: This process runs in a pod of it.
    """
    if spec.expose:
        return spec.expose
    if not existing:
        return "node-port"
    # A workload has no name in the cluster, and no k8s service has a port of this host.
    named = spec.workload is None and spec.host_port is None
    return "in-cluster" if inside and named else "port-forward"


def split_address(text: str, scheme: str) -> tuple[str, int]:
    """Return the host and port of `HOST[:PORT]`; the port is the scheme's if it is left out.

    Raises:
        ValueError: It is no address.
    """
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or WEB_PORTS.get(scheme, 80)) if match else 0
    if match is None or port > _HIGHEST_PORT:
        msg = f'"{text}" is no address'
        raise ValueError(msg)
    return match["host"].strip("[]"), port


def problems_of_keys(spec: EndpointSpec) -> Iterator[str]:
    """Yield what is wrong with the keys of one endpoint, as far as they say how it is reached."""
    way = f'expose = "{spec.expose}"'
    if spec.host_port and spec.expose not in {None, "node-port", "port-forward"}:
        yield f"has host_port and {way}, which uses no port of this host: remove one of them"
    if spec.node_port and spec.expose not in {None, "node-port"}:
        yield f"has node_port and {way}, which uses no NodePort: remove one of them"
    if spec.workload and spec.expose in {"load-balancer", "ingress", "in-cluster"}:
        yield f"has workload and {way}, which leads to a k8s service: use service"
    if spec.expose == "ingress":
        yield from _problems_of_ingress(spec)
    elif spec.address:
        yield 'has address, which means nothing without expose = "ingress"'


def _problems_of_ingress(spec: EndpointSpec) -> Iterator[str]:
    if spec.scheme not in WEB_PORTS:
        yield f'has expose = "ingress", which means nothing for scheme "{spec.scheme}"'
    elif not spec.path:
        # Its controller answers every request, long before it knows the route.
        yield (
            'has expose = "ingress", so it needs a path: an answer without one may be the Ingress '
            "controller's own"
        )
    if spec.address:
        try:
            split_address(spec.address, spec.scheme)
        except ValueError:
            yield f'address is "{spec.address}", but must be HOST or HOST:PORT'


def problems_of_target(
    spec: EndpointSpec, target: KubeObject, reachable: Iterable[KubeObject], *, complete: bool
) -> Iterator[str]:
    """Yield what the manifests lack for the way in which an endpoint is reached.

    Args:
        spec: The endpoint.
        target: What it leads to, as written.
        reachable: All objects that the service may use.
        complete: Nothing else adds objects, such as a Python step.
    """
    meta, kind = target["metadata"], (target.get("spec") or {}).get("type", "ClusterIP")
    where = f" ({place_of(target)})" if place_of(target) else ""
    if spec.expose == "load-balancer" and kind != "LoadBalancer":
        yield (
            f'has expose = "load-balancer", but k8s service "{meta["name"]}"{where} has type '
            f"{kind}: set type: LoadBalancer there"
        )
    objects = tuple(reachable)
    if spec.expose == "ingress" and complete and not find_route(objects, target, spec.port):
        found = dict.fromkeys(
            f'Ingress "{one.ingress["metadata"]["name"]}" to "{one.service}" port {one.port}'
            for one in routes(objects)
        )
        yield (
            f'has expose = "ingress", but no Ingress leads to k8s service "{meta["name"]}"{where} '
            f"port {spec.port}; there are: {', '.join(found) or 'none'}"
        )

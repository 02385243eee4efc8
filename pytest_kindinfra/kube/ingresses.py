"""Which Ingress leads to a port of a k8s service, and under which host. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.kube.objects import group
from pytest_kindinfra.kube.targets import find_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.model import KubeObject


class Route(NamedTuple):
    """One way through an Ingress.

    Attributes:
        ingress: The Ingress.
        host: The host of its rule, `*.example.com` too; empty if the rule is for every host.
        service: The name of the k8s service behind it.
        port: The port of that k8s service, by number or name.
    """

    ingress: KubeObject
    host: str
    service: str
    port: int | str


def routes(objects: Iterable[KubeObject]) -> Iterator[Route]:
    """Yield the routes of all Ingresses among some objects, in the order in which they stand."""
    for obj in objects:
        if obj.get("kind") == "Ingress" and group(obj) == "networking.k8s.io":
            yield from _routes_of(obj)


def find_route(
    objects: Iterable[KubeObject], k8s_service: KubeObject, port: int | str
) -> Route | None:
    """Return the first route to a port of a k8s service; None if no Ingress leads there.

    Args:
        objects: Among which the Ingress is looked for.
        k8s_service: As written, or as the cluster has it.
        port: Its number or its name.
    """
    entry = find_port(k8s_service, port) or {}
    meta, ports = k8s_service["metadata"], {port, entry.get("port"), entry.get("name")}
    for route in routes(objects):
        there = route.service == meta["name"] and route.port in ports
        if there and _may_be_together(route.ingress["metadata"], meta):
            return route
    return None


def _may_be_together(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two objects are in one namespace, as far as both name theirs."""
    named = {meta["namespace"] for meta in (first, second) if meta.get("namespace")}
    return len(named) <= 1


def _routes_of(ingress: KubeObject) -> Iterator[Route]:
    spec = ingress.get("spec") or {}
    for rule in spec.get("rules") or ():
        for path in (rule.get("http") or {}).get("paths") or ():
            yield from _route(ingress, str(rule.get("host") or ""), path.get("backend"))
    yield from _route(ingress, "", spec.get("defaultBackend"))


def _route(ingress: KubeObject, host: str, backend: Any) -> Iterator[Route]:
    service = (backend or {}).get("service") or {}
    port = service.get("port") or {}
    if name := service.get("name"):
        yield Route(ingress, host, str(name), port.get("number") or port.get("name") or 0)

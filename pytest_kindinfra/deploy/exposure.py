"""Which address an endpoint has: of a node, a load balancer, an Ingress, or within the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.deploy.apply import node_port_services
from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.kube.backends import Backend
from pytest_kindinfra.kube.ingresses import find_route
from pytest_kindinfra.kube.targets import (
    expose_service,
    find_port,
    find_target,
    selector,
    target_name,
)
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.names import declared_name
from pytest_kindinfra.plan.copies import near_objects
from pytest_kindinfra.plan.exposure import WEB_PORTS, split_address
from pytest_kindinfra.state.records import Probe
from pytest_kindinfra.system.answers import first_reachable, is_resolved, prove_endpoint
from pytest_kindinfra.system.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.context import Request
    from pytest_kindinfra.deploy.renewal import Deployment
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import EndpointSpec, Expose, KubeObject, Plan, Service
    from pytest_kindinfra.system.timeline import Deadline


_VERSIONS = {"Service": "v1", "Pod": "v1", "Job": "batch/v1"}


_WITH_NODE_PORTS = frozenset({"NodePort", "LoadBalancer"})


_MOST_NODES = 8
"""Nodes that are tried: each that this host has no route to takes a second in each round."""


_LOOK_EVERY = 0.5


def problems_of_exposure(plan: Plan, request: Request) -> Iterator[str]:
    """Yield a sentence for each endpoint that this run cannot reach in the way that it declares."""
    existing = request.existing
    for service in plan.services:
        for spec in service.endpoints:
            place = f"[services.{declared_name(service.name)}.endpoints.{spec.name}]"
            if spec.expose == "in-cluster" and not (existing and existing.inside):
                yield (
                    f'{place} has expose = "in-cluster", but this process does not run in a pod of '
                    "the cluster\n  To fix: run it in a pod there, or remove expose"
                )
            if spec.expose == "port-forward" and request.reuse and existing is None:
                yield (
                    f'{place} has expose = "port-forward", which ends with this process, but the '
                    "cluster and its services stay\n  To fix: remove expose, or run without reuse"
                )


def added_services(deployment: Deployment, known: Iterable[KubeObject]) -> tuple[KubeObject, ...]:
    """Return the k8s services that give endpoints a NodePort where none is written.

    Args:
        deployment: The service.
        known: All objects among which the endpoints' targets are looked for, its own first.
    """
    service, objects = deployment.service, tuple(known)
    if deployment.context.request.existing is None:
        return node_port_services(service, objects, deployment.ports.values())
    asked = [spec for spec in service.endpoints if spec.expose == "node-port"]
    targets = [(spec, find_target(spec, service.name, objects)) for spec in asked]
    return tuple(
        expose_service(spec, service.name, target, node_port=spec.node_port)
        for spec, target in targets
        if target and (target.get("spec") or {}).get("type") not in _WITH_NODE_PORTS
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One service whose endpoints are asked where the cluster has them.

    Attributes:
        service: The service, which is ready.
        plan: Among whose objects the endpoints' k8s services and workloads are.
        applied: The service's objects as the cluster has them.
        namespace: Where objects are that name none.
        kube: The cluster.
        meanwhile: May raise because waiting makes no sense.
        deadline: When to give up.
    """

    service: Service
    plan: Plan
    applied: Sequence[KubeObject]
    namespace: str
    kube: Kube
    meanwhile: Callable[[], object]
    deadline: Deadline

    def probe(self, spec: EndpointSpec, way: Expose) -> Probe:
        """Return how an endpoint is asked; it has answered.

        Args:
            spec: The endpoint.
            way: How it is reached, but neither through a port of this host nor by a forward.

        Raises:
            NotReadyError: It has no address, or did not answer there, in time.
            KindInfraError: There is nothing that it could lead to.
        """
        ways: Mapping[Expose, Callable[[EndpointSpec], Probe]] = {
            "node-port": self._at_node,
            "load-balancer": self._at_balancer,
            "ingress": self._at_ingress,
            "in-cluster": self._in_cluster,
        }
        probe = ways[way](spec)
        prove_endpoint(
            self.service.name,
            spec,
            host=probe.host,
            host_port=probe.host_port,
            node=probe.node,
            virtual_host=probe.virtual_host,
            meanwhile=self.meanwhile,
            deadline=self.deadline,
        )
        return probe

    def backend(self, spec: EndpointSpec) -> Backend:
        """Return the pods behind an endpoint.

        Raises:
            KindInfraError: There is nothing that it could lead to.
        """
        target = self._target(spec)
        port = spec.port
        if spec.workload is None:
            entry = self._port(spec, target)
            port = entry.get("targetPort") or entry["port"]
        if not (labels := selector(target)):
            kind, name = target["kind"], target["metadata"]["name"]
            raise _nothing(spec, f'{kind} "{name}" selects no pods to lead to')
        return Backend(namespace=target["metadata"]["namespace"], labels=labels, port=port)

    def _at_node(self, spec: EndpointSpec) -> Probe:
        target = self._target(spec)
        port = self._node_port(spec, target)
        hosts = wait_until(lambda: self._node_hosts(target), self.deadline, every=_LOOK_EVERY)
        if not hosts:
            raise _nothing(spec, "no node is known: no pod is ready, and nodes may not be listed")
        try:
            host = first_reachable(hosts, port, deadline=self.deadline, meanwhile=self.meanwhile)
        except ServiceFailedError:
            raise
        except NotReadyError as error:
            msg = (
                f'endpoint "{spec.name}" of "{self.service.name}" did not answer'
                f"{self.deadline.exceeded()}: nodePort {port}: {error}\nTo fix: let this host "
                'reach the nodes at that port, or set expose = "port-forward"'
            )
            raise NotReadyError(msg) from error
        return Probe(spec=spec, host=host, host_port=port)

    def _node_port(self, spec: EndpointSpec, target: KubeObject) -> int:
        """Return the NodePort of the k8s service, or of the one that was added for it."""
        if spec.workload is None and (port := self._port(spec, target).get("nodePort")):
            return int(port)
        added = expose_service(spec, self.service.name, target, node_port=None)
        live = self.kube.get(self.kube.path_of(added, namespace=self.namespace))
        if live is None or not (port := live["spec"]["ports"][0].get("nodePort")):
            name = target["metadata"]["name"]
            why = f'{target["kind"]} "{name}" has no nodePort for port {spec.port}'
            raise _nothing(spec, f"{why}\nTo fix: set type: NodePort there")
        return int(port)

    def _node_hosts(self, target: KubeObject) -> list[str]:
        """Return addresses of nodes: first of those that run a pod behind the endpoint.

        Pods tell their node's address, so that rights in one namespace are enough.
        """
        pods = self._pods(target)
        found = [pod.get("status", {}).get("hostIP") for pod in pods]
        names = {pod.get("spec", {}).get("nodeName") for pod in pods}
        nodes = self._nodes()
        near = [node for node in nodes if node["metadata"]["name"] in names] or nodes
        for kind in ("InternalIP", "ExternalIP"):
            found += [address for node in near for address in _addresses(node, kind)]
        return list(dict.fromkeys(filter(None, found)))[:_MOST_NODES]

    def _pods(self, target: KubeObject) -> list[KubeObject]:
        if not (labels := selector(target)):
            return []
        pods = Backend(namespace=target["metadata"]["namespace"], labels=labels, port=0)
        return pods.ready(self.kube.list_(pods.path, **pods.query))

    def _nodes(self) -> list[KubeObject]:
        """Return the cluster's nodes; none if the user may not ask."""
        from pytest_kindinfra.kube.client import ApiError

        try:
            return self.kube.list_("/api/v1/nodes")
        except ApiError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            return []

    def _at_balancer(self, spec: EndpointSpec) -> Probe:
        target = self._target(spec)
        kind, name = target["spec"].get("type", "ClusterIP"), target["metadata"]["name"]
        if kind != "LoadBalancer":
            raise _nothing(spec, f'k8s service "{name}" has type {kind}, not LoadBalancer')
        port = int(self._port(spec, target)["port"])
        if not (host := self._balanced(target)):
            msg = (
                f"{self._without_address(spec, target)}\nTo fix: install a controller for k8s "
                "services of type LoadBalancer in the cluster (for kind: cloud-provider-kind), or "
                'set expose = "port-forward"'
            )
            raise NotReadyError(msg)
        return Probe(spec=spec, host=host, host_port=port)

    def _at_ingress(self, spec: EndpointSpec) -> Probe:
        target = self._target(spec)
        objects = (*self.applied, *near_objects(self.plan, self.service))
        if (route := find_route(objects, target, spec.port)) is None:
            name = target["metadata"]["name"]
            raise _nothing(spec, f'no Ingress leads to k8s service "{name}" port {spec.port}')
        wanted = route.host.replace("*", declared_name(self.service.name))
        host, port = self._ingress_address(spec, route.ingress, wanted)
        virtual = "" if wanted == host else wanted
        return Probe(spec=spec, host=host, host_port=port, virtual_host=virtual)

    def _ingress_address(
        self, spec: EndpointSpec, ingress: KubeObject, wanted: str
    ) -> tuple[str, int]:
        """Return where the Ingress is reached: as declared, by its own host, or as it says."""
        if spec.address:
            return split_address(spec.address, spec.scheme)
        port = WEB_PORTS[spec.scheme]
        if wanted and is_resolved(wanted):
            return wanted, port
        if found := self._balanced(ingress):
            return found, port
        msg = (
            f"{self._without_address(spec, ingress)}\nTo fix: install an Ingress controller in the "
            'cluster; if its controller writes no address there, set address = "HOST:PORT" in the '
            "endpoint"
        )
        raise NotReadyError(msg)

    def _balanced(self, obj: KubeObject) -> str | None:
        """Wait until a controller wrote an address into an object; None if none did in time."""
        path = self.kube.path_of(obj, namespace=self.namespace)

        def address() -> str:
            status = (self.kube.get(path) or {}).get("status") or {}
            entries = (status.get("loadBalancer") or {}).get("ingress") or ()
            found = next((one.get("ip") or one.get("hostname") for one in entries), "")
            if not found:
                self.meanwhile()
            return str(found or "")

        return wait_until(address, self.deadline, every=_LOOK_EVERY)

    def _without_address(self, spec: EndpointSpec, obj: KubeObject) -> str:
        """Return that an object got no address, and what controllers said last about it."""
        noun = "k8s service" if obj["kind"] == "Service" else obj["kind"]
        return (
            f'endpoint "{spec.name}" of "{self.service.name}" got no address'
            f'{self.deadline.exceeded()}: {noun} "{obj["metadata"]["name"]}" is pending: '
            f"{self._why_pending(obj)}"
        )

    def _why_pending(self, obj: KubeObject) -> str:
        namespace = obj["metadata"].get("namespace") or self.namespace
        try:
            events = self.kube.events(namespace)
        except KindInfraError:
            return "its events cannot be read"
        name, kind = obj["metadata"]["name"], obj["kind"]
        said = [
            f"{event.get('reason', '')}: {event.get('message', '')}"
            for event in events
            if _is_about(event, kind, name)
        ]
        return said[-1] if said else "no controller has reacted to it (it has no events)"

    def _in_cluster(self, spec: EndpointSpec) -> Probe:
        target = self._target(spec)
        meta, entry = target["metadata"], self._port(spec, target)
        port = entry["port"]
        if target["spec"].get("clusterIP") == "None":  # its name leads to the pods themselves
            wanted = self.backend(spec)
            port = wanted.pick(self.kube.list_(wanted.path, **wanted.query)).port
        return Probe(spec=spec, host=f"{meta['name']}.{meta['namespace']}.svc", host_port=int(port))

    def _port(self, spec: EndpointSpec, target: KubeObject) -> dict[str, Any]:
        if (entry := find_port(target, spec.port)) is None:
            name = target["metadata"]["name"]
            raise _nothing(spec, f'k8s service "{name}" has no TCP port {spec.port}')
        return entry

    def _target(self, spec: EndpointSpec) -> KubeObject:
        """Return the k8s service or workload as the cluster has it, which may be another's."""
        kind, name = target_name(spec, self.service.name)
        known = near_objects(self.plan, self.service)
        written = find_target(spec, self.service.name, known) or {
            "apiVersion": _VERSIONS.get(kind, "apps/v1"),
            "kind": kind,
            "metadata": {"name": name},
        }
        if live := self.kube.get(self.kube.path_of(written, namespace=self.namespace)):
            return live
        why = f'there is no {kind} "{name}", neither among the manifests nor in the cluster'
        raise _nothing(spec, why)


def _nothing(spec: EndpointSpec, why: str) -> KindInfraError:
    return KindInfraError(f'endpoint "{spec.name}": {why}')


def _addresses(node: KubeObject, kind: str) -> Iterator[str]:
    for one in (node.get("status") or {}).get("addresses") or ():
        if one.get("type") == kind:
            yield str(one.get("address"))


def _is_about(event: KubeObject, kind: str, name: str) -> bool:
    about = event.get("involvedObject") or {}
    return about.get("kind", kind) == kind and about.get("name") == name

"""Endpoints: a request from this host must be answered before a test gets the address.

Through a NodePort where the cluster has kind nodes here, else through a port-forward.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.targets import find_port, find_target, selector, target_name
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.plan.copies import near_objects
from pytest_kindinfra.plan.files import is_ipv6
from pytest_kindinfra.state.records import Probe, ProbedPods
from pytest_kindinfra.system.answers import HOST, prove_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra.deploy.renewal import Deployment
    from pytest_kindinfra.kube.portforward import Backend
    from pytest_kindinfra.model import EndpointSpec, KubeObject, Plan, Service
    from pytest_kindinfra.system.timeline import Deadline


_VERSIONS = {"Service": "v1", "Pod": "v1", "Job": "batch/v1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """One service whose endpoints are asked through forwards.

    Attributes:
        service: The service, which is ready.
        plan: Among whose objects the endpoints' k8s services and workloads are.
        namespace: Where objects are that name none.
        kube: The cluster.
        meanwhile: May raise because waiting makes no sense.
        deadline: When to give up.
    """

    service: Service
    plan: Plan
    namespace: str
    kube: SharedKube
    meanwhile: Callable[[], object]
    deadline: Deadline

    def probes(self) -> tuple[Probe, ...]:
        """Return how the service's endpoints are asked; each of them has answered.

        Raises:
            NotReadyError: One did not answer in time.
            KindInfraError: There is nothing that it could lead to.
        """
        return tuple(self._prove(spec) for spec in self.service.endpoints)

    def _prove(self, spec: EndpointSpec) -> Probe:
        name, backend = self.service.name, self._backend(spec)
        forward = self.kube.forwards.open(backend, port=spec.host_port, name=f"{name}.{spec.name}")
        if spec.scheme == "tcp" and not spec.expect:
            forward.await_far_end(
                f'endpoint "{spec.name}" of "{name}"',
                meanwhile=self.meanwhile,
                deadline=self.deadline,
            )
        prove_endpoint(
            name,
            spec,
            host_port=forward.port,
            node=None,
            meanwhile=self.meanwhile,
            deadline=self.deadline,
        )
        behind = ProbedPods(
            namespace=backend.namespace, labels=dict(backend.labels), port=backend.port
        )
        return Probe(spec=spec, host=HOST, host_port=forward.port, behind=behind)

    def _backend(self, spec: EndpointSpec) -> Backend:
        from pytest_kindinfra.kube.portforward import Backend

        target = self._live_target(spec)
        kind, name, port = target["kind"], target["metadata"]["name"], spec.port
        if spec.workload is None:
            entry = find_port(target, spec.port)
            if entry is None:
                msg = f'endpoint "{spec.name}": k8s service "{name}" has no TCP port {spec.port}'
                raise KindInfraError(msg)
            port = entry.get("targetPort") or entry["port"]
        if not (labels := selector(target)):
            msg = f'endpoint "{spec.name}": {kind} "{name}" selects no pods to lead to'
            raise KindInfraError(msg)
        return Backend(namespace=target["metadata"]["namespace"], labels=labels, port=port)

    def _live_target(self, spec: EndpointSpec) -> KubeObject:
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
        msg = (
            f'endpoint "{spec.name}": there is no {kind} "{name}", neither among the manifests '
            "nor in the cluster"
        )
        raise KindInfraError(msg)


def prove(deployment: Deployment, applied: tuple[KubeObject, ...]) -> tuple[Probe, ...]:
    """Prove each endpoint, but stop as soon as what is behind them breaks for good.

    Returns:
        How they were asked, in the order of declaration.

    Raises:
        NotReadyError: One did not answer in time, or something is broken.
    """
    context, service = deployment.context, deployment.service
    if not service.endpoints:
        return ()
    health = deployment.kube.judge(
        applied, namespace=deployment.namespace, restarts=service.restarts,
        excused=deployment.unready, patience=service.patience,
    )  # fmt: skip
    if isinstance(deployment.kube, SharedKube):
        return Forwarding(
            service=service,
            plan=context.plan,
            namespace=deployment.namespace,
            kube=deployment.kube,
            meanwhile=health.check,
            deadline=deployment.deadline,
        ).probes()
    return tuple(_mapped(deployment, meanwhile=health.check))


def _mapped(deployment: Deployment, *, meanwhile: Callable[[], object]) -> Iterator[Probe]:
    """Prove the endpoints whose NodePorts are mapped to this host."""
    context, service, cluster = deployment.context, deployment.service, deployment.cluster
    ports = deployment.ports
    address = context.tools.kind_nodes.node_address(
        cluster.nodes[0], deployment.deadline, ipv6=is_ipv6(context.request.kind_config)
    )
    for spec in service.endpoints:
        node_port = ports[spec.name].node_port
        probe = Probe(
            spec=spec,
            host=cluster.hosts.get(node_port, HOST),
            host_port=cluster.host_ports[node_port],
            node_address=address,
            node_port=node_port,
        )
        try:
            prove_endpoint(
                service.name,
                spec,
                host=probe.host,
                host_port=probe.host_port,
                node=probe.node,
                meanwhile=meanwhile,
                deadline=deployment.deadline,
            )
        except ServiceFailedError:
            raise
        except NotReadyError as error:
            raise _with_lack(error, deployment, spec) from error
        yield probe


def _with_lack(error: NotReadyError, deployment: Deployment, spec: EndpointSpec) -> NotReadyError:
    """Add that no pod is behind the endpoint's k8s service, if that is so."""
    name, plan = deployment.service.name, deployment.context.plan
    target = find_target(spec, name, near_objects(plan, deployment.service))
    if target and target["kind"] == "Service":
        with suppress(KindInfraError):
            if lack := deployment.kube.lack_of_pods(target, namespace=deployment.namespace):
                return NotReadyError(f'{error}\nk8s service "{target["metadata"]["name"]}": {lack}')
    return error

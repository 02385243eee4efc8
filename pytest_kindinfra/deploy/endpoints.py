"""Endpoints: a request from this host must be answered before a test gets the address.

How each of them is reached is declared, or follows from the cluster: see `plan/exposure.py`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_kindinfra.deploy.exposure import Exposure
from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.targets import find_target
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.plan.copies import near_objects
from pytest_kindinfra.plan.exposure import exposed_by
from pytest_kindinfra.plan.files import is_ipv6
from pytest_kindinfra.state.records import Probe, ProbedPods
from pytest_kindinfra.system.answers import HOST, prove_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.deploy.renewal import Deployment
    from pytest_kindinfra.kube.portforward import Forwards
    from pytest_kindinfra.model import EndpointSpec, KubeObject


def prove(deployment: Deployment, applied: tuple[KubeObject, ...]) -> tuple[Probe, ...]:
    """Prove each endpoint, but stop as soon as what is behind them breaks for good.

    Returns:
        How they were asked, in the order of declaration.

    Raises:
        NotReadyError: One did not answer in time, or something is broken.
    """
    service = deployment.service
    if not service.endpoints:
        return ()
    health = deployment.kube.judge(
        applied, namespace=deployment.namespace, restarts=service.restarts,
        excused=deployment.unready, patience=service.patience,
    )  # fmt: skip
    endpoints = _Endpoints(deployment, applied, health.check)
    return tuple(endpoints.probe(spec) for spec in service.endpoints)


@dataclass(frozen=True)
class _Endpoints:
    """Those of one service, which is ready.

    Attributes:
        deployment: The service.
        applied: Its objects.
        meanwhile: Raises once something behind them is broken for good.
    """

    deployment: Deployment
    applied: tuple[KubeObject, ...]
    meanwhile: Callable[[], object]

    def probe(self, spec: EndpointSpec) -> Probe:
        """Return how an endpoint is asked; it has answered."""
        existing = self.deployment.context.request.existing
        inside = existing is not None and existing.inside
        way = exposed_by(spec, existing=existing is not None, inside=inside)
        if way == "port-forward":
            return self._forwarded(spec)
        if way == "node-port" and existing is None:
            return self._mapped(spec)
        return self._exposure.probe(spec, way)

    @cached_property
    def _exposure(self) -> Exposure:
        deployment = self.deployment
        return Exposure(
            service=deployment.service,
            plan=deployment.context.plan,
            applied=self.applied,
            namespace=deployment.namespace,
            kube=deployment.kube,
            meanwhile=self.meanwhile,
            deadline=deployment.deadline,
        )

    @cached_property
    def _forwards(self) -> Forwards:
        """The forwards of the run in a cluster of others; those of this service in its own."""
        from pytest_kindinfra.kube.portforward import Forwards

        deployment = self.deployment
        if isinstance(deployment.kube, SharedKube):
            return deployment.kube.forwards
        forwards = Forwards(deployment.cluster.kubeconfig)
        deployment.context.tools.closing.callback(forwards.close)
        return forwards

    def _forwarded(self, spec: EndpointSpec) -> Probe:
        """Prove an endpoint through a port of this process that leads to its pods."""
        name, deadline = self.deployment.service.name, self.deployment.deadline
        backend = self._exposure.backend(spec)
        forward = self._forwards.open(backend, port=spec.host_port, name=f"{name}.{spec.name}")
        if spec.scheme == "tcp" and not spec.expect:
            forward.await_far_end(
                f'endpoint "{spec.name}" of "{name}"', meanwhile=self.meanwhile, deadline=deadline
            )
        prove_endpoint(
            name,
            spec,
            host_port=forward.port,
            node=None,
            meanwhile=self.meanwhile,
            deadline=deadline,
        )
        behind = ProbedPods(
            namespace=backend.namespace, labels=dict(backend.labels), port=backend.port
        )
        return Probe(spec=spec, host=HOST, host_port=forward.port, behind=behind)

    @cached_property
    def _node_address(self) -> str | None:
        context, deployment = self.deployment.context, self.deployment
        ipv6 = is_ipv6(context.request.kind_config)
        return context.tools.kind_nodes.node_address(
            deployment.cluster.nodes[0], deployment.deadline, ipv6=ipv6
        )

    def _mapped(self, spec: EndpointSpec) -> Probe:
        """Prove an endpoint whose NodePort is mapped to this host."""
        deployment, cluster = self.deployment, self.deployment.cluster
        node_port = deployment.ports[spec.name].node_port
        probe = Probe(
            spec=spec,
            host=cluster.hosts.get(node_port, HOST),
            host_port=cluster.host_ports[node_port],
            node_address=self._node_address,
            node_port=node_port,
        )
        try:
            prove_endpoint(
                deployment.service.name,
                spec,
                host=probe.host,
                host_port=probe.host_port,
                node=probe.node,
                meanwhile=self.meanwhile,
                deadline=deployment.deadline,
            )
        except ServiceFailedError:
            raise
        except NotReadyError as error:
            raise _with_lack(error, deployment, spec) from error
        return probe


def _with_lack(error: NotReadyError, deployment: Deployment, spec: EndpointSpec) -> NotReadyError:
    """Add that no pod is behind the endpoint's k8s service, if that is so."""
    name, plan = deployment.service.name, deployment.context.plan
    target = find_target(spec, name, near_objects(plan, deployment.service))
    if target and target["kind"] == "Service":
        with suppress(KindInfraError):
            if lack := deployment.kube.lack_of_pods(target, namespace=deployment.namespace):
                return NotReadyError(f'{error}\nk8s service "{target["metadata"]["name"]}": {lack}')
    return error

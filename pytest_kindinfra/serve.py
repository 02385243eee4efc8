"""The line of one service once its images and needs are there: run, apply, wait, prove.

Part of the recipe in `stack.py`; it must not know the other services' lines.
"""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.steps.deploy import Target, apply_objects, node_port_services, run_function
from pytest_kindinfra.steps.expose import prove_endpoint
from pytest_kindinfra.view import Stack

if TYPE_CHECKING:
    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.model import Cluster, Endpoint, KubeObject, Plan, Service
    from pytest_kindinfra.request import Hooks, Request, Tools
    from pytest_kindinfra.steps.deploy import ImagesInUse
    from pytest_kindinfra.timeline import Deadline


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a service is: each future is resolved once, with nothing or with the failure."""

    applied: Future[None] = field(default_factory=Future)
    started: Future[None] = field(default_factory=Future)
    ready: Future[None] = field(default_factory=Future)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits for a level that was not reached."""
        for future in (self.applied, self.started, self.ready):
            with suppress(InvalidStateError):
                future.set_exception(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One service on its way up, and all that its line needs to know."""

    service: Service
    plan: Plan
    cluster: Cluster
    kube: Kube
    images: ImagesInUse
    request: Request
    tools: Tools
    run: RunDirectory
    hooks: Hooks
    deadline: Deadline


def serve(deployment: Deployment, reached: Reached) -> tuple[Endpoint, ...]:
    """Bring the service up and return its endpoints, each of which has answered.

    Args:
        deployment: What to bring up.
        reached: Told when the levels `applied` and `started` are reached.

    Raises:
        NotReadyError: It did not become ready; holds the cause.
        KindInfraError: An object was refused, or the run step is no good.
    """
    service, timeline = deployment.service, deployment.tools.timeline
    stack = Stack(deployment.run, waits=False)
    deployment.hooks.before_deploy(stack=stack, service=service)
    objects = deployment.plan.objects.get(service.name, ())
    if service.run:
        with timeline.span("run", service.name):
            objects += run_function(service, stack, folder=deployment.request.folder)
    applied: tuple[KubeObject, ...] = ()
    if objects:
        with timeline.span("deploy", service.name):
            applied = _apply(deployment, objects)
    reached.applied.set_result(None)
    with timeline.span("wait", service.name):
        _await_ready(deployment, applied, reached)
        endpoints = _prove(deployment)
    deployment.hooks.after_deploy(stack=stack, service=service)
    return endpoints


def _apply(deployment: Deployment, objects: tuple[KubeObject, ...]) -> tuple[KubeObject, ...]:
    plan, service = deployment.plan, deployment.service
    ports = [port for port in plan.ports if port.service == service.name]
    # An endpoint's k8s service may stand among another service's manifests; ours come first.
    known = [*objects, *(obj for others in plan.objects.values() for obj in others)]
    return apply_objects(
        service,
        (*objects, *node_port_services(service, known, ports)),
        images=deployment.images,
        target=Target(kube=deployment.kube, namespace=deployment.request.namespace),
        deadline=deployment.deadline,
    )


def _await_ready(deployment: Deployment, applied: tuple[KubeObject, ...], reached: Reached) -> None:
    """Wait for both levels; the first only if some service waits for just that."""
    service, needs = deployment.service, (n for s in deployment.plan.services for n in s.needs)
    levels = {need.level for need in needs if need.name == service.name}
    for level in ("started", "ready"):
        if level == "ready" or level in levels:
            deployment.kube.wait_ready(
                applied,
                namespace=deployment.request.namespace,
                deadline=deployment.deadline,
                restarts=service.restarts,
                level=level,
            )
        if level == "started":
            reached.started.set_result(None)


def _prove(deployment: Deployment) -> tuple[Endpoint, ...]:
    service, cluster = deployment.service, deployment.cluster
    if not service.endpoints:
        return ()
    ports = {one.endpoint: one for one in deployment.plan.ports if one.service == service.name}
    address = deployment.tools.provider.node_address(cluster.nodes[0], deployment.deadline)
    return tuple(
        prove_endpoint(
            service.name,
            spec,
            host_port=cluster.host_ports[ports[spec.name].node_port],
            node=(address, ports[spec.name].node_port),
            deadline=deployment.deadline,
        )
        for spec in service.endpoints
    )

"""One service as a task: the points it reaches, what it is deployed with, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.deploy.renewal import Deployment, Renewal
from pytest_kindinfra.deploy.service import Reached, serve
from pytest_kindinfra.names import declared_name
from pytest_kindinfra.plan.graph import in_order
from pytest_kindinfra.plan.origins import brings, pods_may_make
from pytest_kindinfra.run.tasks import Task
from pytest_kindinfra.state.records import ServiceReady
from pytest_kindinfra.state.reused import source_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.kube.refusals import Missing
    from pytest_kindinfra.kube.rewrite import ImagesInUse
    from pytest_kindinfra.model import Cluster, Endpoint, Level, Plan, Service


@dataclass(frozen=True, slots=True)
class ServiceTask:
    """A service on its way up.

    Attributes:
        name: What it is called in messages.
        ready: Done when its endpoints have answered and its result is written.
        reached: The points before that.
    """

    name: str
    ready: Task[tuple[Endpoint, ...]]
    reached: Reached = field(default_factory=Reached)

    @property
    def points(self) -> list[Task[Any]]:
        """What it reaches before it is ready."""
        reached = self.reached
        return [
            Task(self.name, one) for one in (reached.generation, reached.applied, reached.started)
        ]

    def at(self, level: Level) -> Task[Any]:
        """Return the task that is done when the service has come so far."""
        return self.ready if level == "ready" else Task(self.name, getattr(self.reached, level))


def service_tasks(plan: Plan) -> dict[str, ServiceTask]:
    """Return a task for each service of the plan; none has started."""
    names = {service.name: f'service "{service.name}"' for service in plan.services}
    return {name: ServiceTask(called, Task(called)) for name, called in names.items()}


def deploy_service(
    context: Context,
    service: Service,
    cluster: Cluster,
    kube: Kube,
    images: ImagesInUse,
    services: Mapping[str, ServiceTask],
) -> tuple[Endpoint, ...]:
    """Deploy a service, wait until it is ready, prove its endpoints, and write its result.

    Args:
        context: The bring-up.
        service: The service; its needs have come far enough.
        cluster: Where it goes.
        kube: The cluster's API.
        images: What references in its objects become.
        services: The tasks of all services of the plan.

    Raises:
        KindInfraError: It did not become ready.
    """
    deployment = _deployment(context, service, cluster, kube, images, services)
    context.run.begin(ServiceReady, service.name)
    endpoints = serve(deployment, services[service.name].reached)
    context.run.settle(ServiceReady(endpoints=endpoints), service.name)
    return endpoints


def fail_service(context: Context, service: Service, error: BaseException) -> None:
    """Write the failed result of a service; with `--kindinfra-fail=fast` end the bring-up."""
    subject = f'service "{service.name}"'
    context.failure.note(subject, error)
    failure = context.failure_of(error, subject=subject)
    context.run.fail(ServiceReady, failure, service.name)


def _deployment(
    context: Context,
    service: Service,
    cluster: Cluster,
    kube: Kube,
    images: ImagesInUse,
    services: Mapping[str, ServiceTask],
) -> Deployment:
    key = f"timeout of [services.{service.name}]"
    deadline = context.deadline(service.timeout, key=key)
    needs = [services[need.name] for need in service.needs]
    return Deployment(
        service=service,
        cluster=cluster,
        kube=kube,
        images=images,
        context=context,
        deadline=deadline,
        renewal=Renewal(
            service,
            reused_dir=cluster.reused_dir,
            kube=kube,
            namespace=context.plan.namespaces.get(service.name, context.request.namespace),
            source=source_of(declared_name(service.name), context.plan.declaration),
            needs={
                one.name: services[one.name].reached.generation.result() for one in service.needs
            },
            deadline=deadline,
        ),
        unready=lambda: not all(one.ready.future.done() for one in needs),
        makers=partial(_makers, context, service, services),
    )


def _makers(
    context: Context, service: Service, services: Mapping[str, ServiceTask], missing: Missing
) -> list[str]:
    """Return what may still bring something that an object of the service lacks."""
    plan = context.plan
    needs = {one.name: [need.name for need in one.needs] for one in plan.services}
    others = [
        one
        for one in plan.services
        if not services[one.name].ready.future.done()
        and service.name not in in_order([one.name], needs)
    ]
    known = [one.name for one in others if _may_bring(context, one, missing)]
    objects = [obj for one in plan.services for obj in plan.objects.get(one.name, ())]
    return [*known, *(["a pod"] if pods_may_make(objects, missing.kind) else [])]


def _may_bring(context: Context, service: Service, missing: Missing) -> bool:
    objects = context.plan.objects.get(service.name, ())
    unseen = bool(service.run) or context.hooks.deploying
    return unseen or brings(objects, missing.kind, missing.name)

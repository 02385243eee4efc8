"""The line of one service once its images and needs are there: run, apply, wait, prove.

Part of the recipe in `run/recipe.py`; it must not know the other services' lines.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pytest_kindinfra.deploy.apply import Target, apply_objects, run_function
from pytest_kindinfra.deploy.charts import install, own_objects
from pytest_kindinfra.deploy.endpoints import prove
from pytest_kindinfra.deploy.exposure import added_services
from pytest_kindinfra.errors import did_you_mean
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube.objects import is_hook
from pytest_kindinfra.kube.origins import NAMESPACES, made_namespaces
from pytest_kindinfra.kube.readiness import rules_of
from pytest_kindinfra.kube.refusals import Missing
from pytest_kindinfra.kube.rewrite import content_hash
from pytest_kindinfra.names import declared_name
from pytest_kindinfra.plan.copies import near_objects
from pytest_kindinfra.state.records import ClusterReady, DeployedService
from pytest_kindinfra.system.timeline import call_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.deploy.renewal import Deployment
    from pytest_kindinfra.model import Endpoint, KubeObject, Level, Plan, Release
    from pytest_kindinfra.state.records import Probe


@dataclass(frozen=True, slots=True)
class Reached:
    """The points that a service reaches before it is ready; each future is resolved once.

    `generation` is that of the deployed state, there before `applied`; empty without one.
    """

    generation: Future[str] = field(default_factory=Future)
    applied: Future[None] = field(default_factory=Future)
    started: Future[None] = field(default_factory=Future)


def serve(deployment: Deployment, reached: Reached) -> tuple[Endpoint, ...]:
    """Bring the service up and return its endpoints, each of which has answered.

    Args:
        deployment: What to bring up.
        reached: Told when the levels `applied` and `started` are reached.

    Raises:
        NotReadyError: It did not become ready; holds the cause.
        KindInfraError: An object was refused, or the run step is no good.
    """
    context, service = deployment.context, deployment.service
    timeline, stack = context.tools.timeline, _stack(deployment)
    if deployment.namespace != context.request.namespace:  # a worker's own
        deployment.kube.ensure_namespace(deployment.namespace, deployment.deadline, {})
    _call_hook(deployment, context.hooks.before_deploy, stack)
    objects = own_objects(context.plan, service.name)
    release = context.plan.releases.get(service.name)
    if service.run:
        step = partial(_call_step, deployment, stack)
        objects += deployment.renewal.step(step, folder=context.request.folder)
    says = lambda: deployment.said.text  # noqa: E731 - read while the span lasts
    span = timeline.span("deploy", service.name, says=says)
    with span if objects or release else nullcontext():
        applied = _deploy(deployment, objects, release)
    reached.generation.set_result(deployment.renewal.generation)
    reached.applied.set_result(None)
    latest, stage = _Latest(), _Latest()
    with timeline.span("wait", service.name, says=latest.read, reached=stage.read):
        _await_ready(deployment, applied, reached, latest, stage)
        deployment.renewal.await_routes()
        probes = prove(deployment, applied)
    endpoints = tuple(probe.endpoint(declared_name(service.name)) for probe in probes)
    _note_deployed(deployment, applied, probes, content_hash(objects))
    proved = _stack(deployment, {service.name: endpoints})
    _call_hook(deployment, context.hooks.after_deploy, proved)
    deployment.renewal.ready(endpoints)
    return endpoints


def _note_deployed(
    deployment: Deployment,
    applied: tuple[KubeObject, ...],
    probes: tuple[Probe, ...],
    content: str,
) -> None:
    """Leave what tests and commands need to change the service and to see it whole again."""
    context, service, images = deployment.context, deployment.service, deployment.images
    record = DeployedService(
        service=service.name,
        namespace=deployment.namespace,
        objects=tuple(_outline(obj) for obj in applied if not is_hook(obj)),
        probes=probes,
        restarts=service.restarts,
        patience=service.patience,
        timeout=service.timeout or context.request.timeout,
        ready=service.ready,
        run=service.run or "",
        needs=tuple(need.name for need in service.needs),
        references=dict(images.declared),
        names={one.name: one.names for one in context.plan.images if one.name in images.declared},
        written={
            written: runs
            for written, runs in images.written.items()
            if runs not in images.declared.values()
        },
        loaded=tuple(sorted(images.loaded)),
        images_at=service.images_at,
        content=content,
    )
    context.run.write(record, service.name)
    deployment.renewal.keep(record)


def _stack(deployment: Deployment, proved: dict[str, tuple[Endpoint, ...]] | None = None) -> Stack:
    """Return what hooks and steps see; before the nodes are Ready the cluster has no result yet."""
    context = deployment.context
    early = deployment.service.before == "nodes"
    cluster = ClusterReady.of(deployment.cluster, namespace=context.request.namespace)
    return Stack(
        context.run,
        waits=False,
        proved=proved,
        cluster=cluster if early else None,
        shared=context.request.existing is not None,
        folder=context.request.folder,
        worker=deployment.service.worker,
        namespace=deployment.namespace,
    )


def _call_hook(deployment: Deployment, hook: Callable[..., object], stack: Stack) -> None:
    service = deployment.service
    call_within(
        lambda: hook(stack=stack, service=service),
        deployment.deadline,
        what=f'a hook for service "{service.name}"',
    )


def _call_step(deployment: Deployment, stack: Stack) -> tuple[KubeObject, ...]:
    context, service = deployment.context, deployment.service
    with context.tools.timeline.span("run", service.name):
        folder = context.request.folder
        return run_function(service, stack, folder=folder, deadline=deployment.deadline)


def _deploy(
    deployment: Deployment, objects: tuple[KubeObject, ...], release: Release | None
) -> tuple[KubeObject, ...]:
    """Make way, apply the manifests and the chart, and note the resulting objects."""
    plan, service, renewal = deployment.context.plan, deployment.service, deployment.renewal
    # An endpoint's k8s service may stand among another service's manifests; ours come first.
    own = (*objects, *(release.objects if release else ()))
    known = [*own, *near_objects(plan, service)]
    beside = added_services(deployment, known)
    renewal.make_way(objects, beside, release, deployment.images)
    applied = _bring(deployment, objects, beside, release)
    renewal.note(applied)
    return applied


def _bring(
    deployment: Deployment,
    objects: tuple[KubeObject, ...],
    beside: tuple[KubeObject, ...],
    release: Release | None,
) -> tuple[KubeObject, ...]:
    """Apply what was written and install the chart, in the order of the declaration."""
    content = content_hash(objects)
    if release is None:
        return _apply(deployment, (*objects, *beside), content)
    if deployment.service.helm_first:
        installed = install(deployment, release, beside)
        return (*installed, *_apply(deployment, objects, content))
    applied = _apply(deployment, objects, content)
    return (*applied, *install(deployment, release, beside))


def _apply(
    deployment: Deployment, objects: tuple[KubeObject, ...], content: str
) -> tuple[KubeObject, ...]:
    return apply_objects(
        deployment.service,
        objects,
        images=deployment.images,
        target=Target(kube=deployment.kube, namespace=deployment.namespace),
        deadline=deployment.deadline,
        content=content,
        shared=deployment.context.plan.shared,
        outlook=deployment.outlook,
        make_namespace=partial(_make_namespace, deployment),
    )


def _make_namespace(deployment: Deployment, name: str) -> None:
    """Make a namespace that an object names, unless something else brings it or it is a near miss.

    In an existing cluster namespaces are its owner's to make.
    """
    context = deployment.context
    known = _known_namespaces(context.plan)
    if context.request.existing or name in known or did_you_mean(name, known):
        return
    if not deployment.makers(Missing(kind="namespaces", name=name)):
        deployment.kube.ensure_namespace(name, deployment.deadline, {})


def _known_namespaces(plan: Plan) -> set[str]:
    made = made_namespaces(obj for objects in plan.objects.values() for obj in objects)
    releases = {release.namespace for release in plan.releases.values()}
    own = {plan.declaration.cluster.namespace, *plan.namespaces.values()}
    return {*NAMESPACES, *own, *made, *releases}


class _Latest:
    """What was in the way at the last look, for those who watch."""

    def __init__(self) -> None:
        self._text = ""

    def note(self, text: str) -> None:
        self._text = text

    def read(self) -> str:
        return self._text


def _await_ready(
    deployment: Deployment,
    applied: tuple[KubeObject, ...],
    reached: Reached,
    latest: _Latest,
    stage: _Latest,
) -> None:
    """Wait for both levels; the first only if some service waits for just that."""
    wait = partial(
        deployment.kube.wait_ready,
        applied,
        namespace=deployment.namespace,
        deadline=deployment.deadline,
        restarts=deployment.service.restarts,
        rules=rules_of(deployment.service.ready),
        excused=deployment.unready,
        patience=deployment.service.patience,
        notice=latest.note,
        stage=stage.note,
    )
    if _is_wanted(deployment, "started"):
        wait(level="started")
    reached.started.set_result(None)
    # What has endpoints is asked itself; the rest must stay up for a moment to count as ready.
    if deployment.service.endpoints:
        wait(level="ready", settle=0.0)
    else:
        wait(level="ready")


def _is_wanted(deployment: Deployment, level: Level) -> bool:
    """Whether some service of the plan waits for just this level of the service."""
    return any(
        need.name == deployment.service.name and need.level == level
        for service in deployment.context.plan.services
        for need in service.needs
    )


def _outline(obj: KubeObject) -> KubeObject:
    meta = obj["metadata"]
    keys = {key: meta[key] for key in ("name", "namespace") if meta.get(key)}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": keys}

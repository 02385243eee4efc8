"""The recipe: what a run brings up, in what order, and how it ends.

The cluster, each image and each service is one straight line of steps in a thread of its own,
which waits for just what it needs; nothing here waits for "all builds" or "all loads". Results go
to the run directory, written once, and nothing flows back. It must not know pytest or a concrete
engine.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pytest_kindinfra.context import SUBJECT, Context, FirstFailure, needed
from pytest_kindinfra.deploy.renewal import Deployment, Renewal
from pytest_kindinfra.deploy.service import Reached, serve
from pytest_kindinfra.images.build import Builds
from pytest_kindinfra.images.cleanup import drop_old_images
from pytest_kindinfra.images.dockerfile import build_secrets
from pytest_kindinfra.kube.origins import brings, pods_may_make
from pytest_kindinfra.plan.graph import in_order
from pytest_kindinfra.run.cluster import ClusterLine
from pytest_kindinfra.run.existing import ExistingLine, ImagesElsewhere
from pytest_kindinfra.run.images import ImageLines, external
from pytest_kindinfra.state.results import service_record
from pytest_kindinfra.state.reused import source_of
from pytest_kindinfra.system.files import size_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_kindinfra.context import Hooks, Request, Tools
    from pytest_kindinfra.kube.refusals import Missing
    from pytest_kindinfra.model import ImagesInUse, Plan, Service
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.timeline import Deadline


_BEAT = 1.0


_LATE = 3.0


_LATE_EVERY = 0.5


CLUSTER_THREADS = 7


_NAME_THREADS = 1


class ImagesOf(Protocol):
    """Knows when the images of a service are in the kind nodes."""

    def of(self, service: Service) -> ImagesInUse:
        """Wait for them; say what references become."""
        ...


def bring_up(
    plan: Plan,
    request: Request,
    *,
    tools: Tools,
    run: RunDirectory,
    hooks: Hooks,
    cancelled: threading.Event,
    watchers: list[threading.Thread] | None = None,
    held: ExitStack | None = None,
) -> None:
    """Bring up what `plan` says and write each result to `run`; returns when all is decided.

    A failure is a result too: it is written for the service and for those that need it.

    Args:
        plan: What to bring up.
        request: How.
        tools: Who does the work.
        run: Gets the results.
        hooks: Called on the way.
        cancelled: Set when the run ends; everything is then given up at once.
        watchers: Gets the threads that watch the kind nodes, which end when the run does.
        held: Gets what is to be let go of after the run's end: a cluster that outlives it.
    """
    context = Context(
        plan=plan,
        request=request,
        tools=tools,
        run=run,
        hooks=hooks,
        cancelled=cancelled,
        failure=FirstFailure(cancelled, fast=request.fail_fast),
        watchers=[] if watchers is None else watchers,
        held=held or ExitStack(),
    )
    tools.redactor.learn(
        value for image in plan.images for value in build_secrets(image, folder=request.folder)
    )
    with lines_pool(context, more=CLUSTER_THREADS) as pool:
        builds = Builds(context)
        line = ExistingLine if request.existing else ClusterLine
        reached = {service.name: Reached() for service in plan.services}
        cluster = line(context, pool, also=builds.look, first=before_nodes(plan, reached))
        images = _images(context, cluster, builds, pool)
        bring_up_services(context, cluster, images, pool, reached)
        if cluster.taking_pods.exception():
            cancelled.set()  # builds would go on for nobody
        elif not cancelled.is_set():
            drop_old_images(context, cluster.created.result(), cluster.taking_pods.result())
        cluster.close()
    builds.remember(cluster.layers)


def _images(
    context: Context, cluster: ClusterLine, builds: Builds, pool: ThreadPoolExecutor
) -> ImagesOf:
    """Return who brings images into the cluster, or leaves that to the cluster itself."""
    existing = context.request.existing
    if existing and not existing.nodes:
        return ImagesElsewhere(context)
    return ImageLines(context, cluster, builds, pool)


def lines_pool(context: Context, *, more: int = 0) -> ThreadPoolExecutor:
    """Return a thread for each line, so that lines that wait never keep another from starting."""
    count = more + _NAME_THREADS + 2 * len(context.plan.images)
    count += len(external(context)) + len(context.plan.services)
    return ThreadPoolExecutor(count, thread_name_prefix="kindinfra")


def before_nodes(plan: Plan, reached: Mapping[str, Reached]) -> dict[str, Future[None]]:
    """Return the services that nodes need to get Ready, with what tells that they are ready."""
    return {one.name: reached[one.name].ready for one in plan.services if one.before == "nodes"}


def bring_up_services(
    context: Context,
    cluster: ClusterLine,
    images: ImagesOf,
    pool: ThreadPoolExecutor,
    reached: dict[str, Reached] | None = None,
) -> None:
    """Bring up the plan's services, each once what it needs is there; returns when all is decided.

    Args:
        context: The bring-up.
        cluster: Where they go; may still be on its way.
        images: Says what a service runs, once the kind nodes have it.
        pool: Has a thread for each service.
        reached: Told how far each service is; None makes it.
    """
    reached = reached or {service.name: Reached() for service in context.plan.services}
    hooks, services = context.hooks, _ServiceLines(context, cluster, images, reached)
    lines = (pool.submit(services.bring_up, one) for one in context.plan.services)
    pending: set[Future[Any]] = {*lines, cluster.taking_pods}
    try:
        while pending:
            pending = wait(pending, timeout=_BEAT).not_done
            hooks.beat(context.tools.timeline.running)
    except BaseException as error:  # a bug of ours: the lines must not go on for nobody
        context.failure.end("the bring-up", error)
        raise


def tear_down(name: str, *, tools: Tools, kubeconfig: Path, deadline: Deadline) -> None:
    """Delete the cluster `name`; do nothing if there is none.

    A creation that was cut short may have asked the engine for a container that is there only
    after the deletion; so it is looked for once more, for a few seconds.

    Raises:
        CommandError: It could not be deleted.
    """
    finished = size_of(kubeconfig) > 0  # the last thing it writes
    tools.provider.delete(name, kubeconfig=kubeconfig, deadline=deadline)
    late = deadline.within(0.0 if finished else _LATE)
    while not late.passed:
        late.pause(_LATE_EVERY)
        if tools.provider.exists(name, deadline):
            tools.provider.delete(name, kubeconfig=kubeconfig, deadline=deadline)


class _ServiceLines:
    """The services' lines, and how far each is."""

    def __init__(
        self,
        context: Context,
        cluster: ClusterLine,
        images: ImagesOf,
        reached: Mapping[str, Reached],
    ) -> None:
        self._context = context
        self._cluster = cluster
        self._images = images
        self._reached = reached

    def bring_up(self, service: Service) -> None:
        """Bring one service up, from its images to its endpoints, and write its result."""
        reached, run = self._reached[service.name], self._context.run
        name = f"service-{service.name}"
        try:
            deployment = self._deployment(service)
            run.begin(name)
            endpoints = serve(deployment, reached)
            run.settle(name, service_record(endpoints))
            reached.ready.set_result(None)
        except BaseException as error:  # noqa: BLE001 - a failure is a result
            # First those in this process: they must not wait for a disk that is full.
            reached.fail(error)
            subject = f'service "{service.name}"'
            self._context.failure.note(subject, error)
            run.settle(name, self._context.failure_record(error, subject=subject))

    def _deployment(self, service: Service) -> Deployment:
        """Wait for all that the service needs."""
        early = service.before == "nodes"
        kube = needed(SUBJECT, self._cluster.answering if early else self._cluster.taking_pods)
        images = self._images.of(service)
        for need in service.needs:
            needed(f'service "{need.name}"', getattr(self._reached[need.name], need.level))
        cluster = self._cluster.created.result()
        key = f"timeout of [services.{service.name}]"
        deadline = self._context.deadline(service.timeout, key=key)
        return Deployment(
            service=service,
            cluster=cluster,
            kube=kube,
            images=images,
            context=self._context,
            deadline=deadline,
            renewal=Renewal(
                service,
                home=cluster.home,
                kube=kube,
                namespace=self._context.request.namespace,
                source=source_of(service.name, self._context.plan.declaration),
                needs={one.name: self._reached[one.name].token.result() for one in service.needs},
                deadline=deadline,
            ),
            unready=lambda: (
                not all(self._reached[need.name].ready.done() for need in service.needs)
            ),
            makers=partial(self._makers, service),
        )

    def _makers(self, service: Service, missing: Missing) -> list[str]:
        """Return what may still bring something that an object of the service lacks."""
        plan = self._context.plan
        needs = {one.name: [need.name for need in one.needs] for one in plan.services}
        others = [
            one
            for one in plan.services
            if not self._reached[one.name].ready.done()
            and service.name not in in_order([one.name], needs)
        ]
        known = [one.name for one in others if self._may_bring(one, missing)]
        objects = [obj for one in plan.services for obj in plan.objects.get(one.name, ())]
        return [*known, *(["a pod"] if pods_may_make(objects, missing.kind) else [])]

    def _may_bring(self, service: Service, missing: Missing) -> bool:
        objects = self._context.plan.objects.get(service.name, ())
        unseen = bool(service.run) or self._context.hooks.deploying
        return unseen or brings(objects, missing.kind, missing.name)

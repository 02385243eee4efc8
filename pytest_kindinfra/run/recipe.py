"""The recipe: what a run does, in what order, and what waits for what.

Read it from the top: create the cluster, build images in parallel, load each as soon as kind nodes
take it, deploy each service once its images are loaded and its needs are ready. Each of these is
a task in a thread of its own; nothing waits for "all builds" or "all loads". Results go to the run
directory, written once. It must not know pytest or a concrete engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.steps import ClusterSteps, cluster_steps, obtain_watched
from pytest_kindinfra.context import CLUSTER, Context
from pytest_kindinfra.deploy.pullsecret import find_pull_secret
from pytest_kindinfra.deploy.renewal import forget_undeclared
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.build import Builds
from pytest_kindinfra.images.cleanup import drop_old_images
from pytest_kindinfra.images.dockerfile import build_secrets
from pytest_kindinfra.images.load import open_loader
from pytest_kindinfra.images.tags import ask_circumstances
from pytest_kindinfra.model import BuiltImage, ImagesInUse
from pytest_kindinfra.run.serving import deploy_service, fail_service, service_tasks
from pytest_kindinfra.run.supply import Registries, as_loaded, open_registries, sender_of
from pytest_kindinfra.run.tasks import Task, Tasks, await_all
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.records import ClusterReady, ImageLoaded
from pytest_kindinfra.system.files import size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.images.load import ImageLoader
    from pytest_kindinfra.images.tags import Circumstances
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Cluster, Image, PullSecret, Service
    from pytest_kindinfra.run.serving import ServiceTask
    from pytest_kindinfra.system.timeline import Deadline

_PREFLIGHT = "the set-up"
_HEARTBEAT = 1.0
_LATE = 3.0
_LATE_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class ClusterTasks:
    """The cluster on its way up.

    Attributes:
        checked: The tools are there.
        created: Its API can be asked.
        registries: The registries that kind nodes pull from.
        nodes: The kind nodes take images, long before they take pods.
        answering: The API server answers and the namespace is there, whatever nodes do.
        ready: Pods can run; its result is written.
    """

    checked: Task[str]
    created: Task[Cluster]
    registries: Task[Registries]
    nodes: Task[ImageLoader]
    answering: Task[Kube]
    ready: Task[Kube]


@dataclass(frozen=True, slots=True)
class ImageTasks:
    """The images on their way into the kind nodes.

    Attributes:
        built: Declared name to the image, in the engine.
        loaded: Declared name to the reference that pods run.
        external: Reference in manifests to the one that pods run, None if kind nodes pull it.
        pull: The Secret by which nodes pull; None in a cluster into which images are loaded.
    """

    built: Mapping[str, Task[BuiltImage]]
    loaded: Mapping[str, Task[str]]
    external: Mapping[str, Task[str | None]]
    pull: Task[PullSecret | None] | None = None

    @property
    def brought(self) -> list[BuiltImage]:
        """The images that the engine has by now."""
        return [image for task in self.built.values() if (image := task.made)]


def bring_up(context: Context) -> None:
    """Bring up what the plan says and write each result; return when all is decided.

    A failure is a result too: it is written for the service and for those that need it.
    """
    plan, folder = context.plan, context.request.folder
    context.tools.redactor.learn(
        value for image in plan.images for value in build_secrets(image, folder=folder)
    )
    with Tasks() as tasks:
        builds, services = Builds(context), service_tasks(plan)
        cluster = add_cluster(tasks, context, services, preflight=builds.find)
        images = add_stack(tasks, context, builds, services, cluster)
        await_tasks(context, [cluster.ready, *(one.ready for one in services.values())])
        if cluster.ready.error:
            context.cancelled.set()  # builds would go on in vain
        elif not context.cancelled.is_set():
            drop_old_images(context, cluster.created.result(), cluster.ready.result())
        close_cluster(cluster)
    builds.remember(images.brought, layers_seen(cluster))


def add_cluster(
    tasks: Tasks,
    context: Context,
    services: Mapping[str, ServiceTask],
    *,
    preflight: Callable[[], None],
) -> ClusterTasks:
    """Create the cluster; nodes that need services to get Ready wait for them."""
    steps = cluster_steps(context)
    begun: Task[int] = Task(CLUSTER)
    answering: Task[Kube] = Task(CLUSTER)
    first = [services[one.name].ready for one in context.plan.services if one.before == "nodes"]
    checked = tasks.add(_PREFLIGHT, lambda: _check(steps, preflight))
    tasks.add("the sweep", steps.sweep, after=[checked])
    registries = tasks.add(CLUSTER, lambda: open_registries(context), after=[checked])
    created = tasks.add(
        CLUSTER,
        lambda: obtain_watched(steps, context, checked.result(), begun.reach),
        after=[checked],
        reaching=[begun],
    )
    nodes = tasks.add(
        CLUSTER,
        lambda: open_loader(
            context,
            begun.result(),
            created.future,
            sender_of(context, registries.result()),
            lambda work: tasks.add(CLUSTER, work),
        ),
        after=[begun, registries],
    )

    ready = tasks.add(
        CLUSTER,
        lambda: _await_pods(
            steps, context, created.result(), registries.result(), answering, first
        ),
        after=[created, registries],
        reaching=[answering],
        failed=partial(_fail_cluster, context),
    )
    return ClusterTasks(checked, created, registries, nodes, answering, ready)


def add_stack(
    tasks: Tasks,
    context: Context,
    builds: Builds | Mapping[str, Task[BuiltImage]],
    services: Mapping[str, ServiceTask],
    cluster: ClusterTasks,
) -> ImageTasks:
    """Bring up the services of a plan with their images: all but the cluster itself.

    Args:
        tasks: Where each step becomes a task.
        context: What every step knows; its plan says which images and services.
        builds: Builds the images; or those that are built already, by name.
        services: The tasks that end with each service, by name.
        cluster: The cluster on its way up.
    """
    images = add_images(tasks, context, builds, cluster)
    add_services(tasks, context, services, cluster, images)
    return images


def add_images(
    tasks: Tasks,
    context: Context,
    builds: Builds | Mapping[str, Task[BuiltImage]],
    cluster: ClusterTasks,
) -> ImageTasks:
    """Build each image as soon as its bases are built, and load it as soon as it is built."""
    existing = context.request.existing
    if existing and not existing.nodes:
        return _images_elsewhere(tasks, context, builds, cluster)
    # Images that need no build go first: they can travel while others are built.
    external = add_external(tasks, context, cluster)
    built = (
        add_builds(tasks, context, builds, after=cluster.checked)
        if isinstance(builds, Builds)
        else builds
    )
    return ImageTasks(built, add_loads(tasks, context, built, cluster), external)


def add_builds(
    tasks: Tasks, context: Context, builds: Builds, *, after: Task[Any]
) -> dict[str, Task[BuiltImage]]:
    """Build each image as soon as its bases are built."""
    names = tasks.add("the names of images", lambda: ask_circumstances(context))
    built: dict[str, Task[BuiltImage]] = {}
    for image in builds.wanted:  # bases come first
        bases = [] if context.request.no_build else [built[name] for name in image.needs]
        built[image.name] = tasks.add(
            f'image "{image.name}"',
            partial(_build, builds, image, bases, names),
            after=[after, *bases],
            failed=partial(builds.note_failure, image),
        )
    return built


def add_external(
    tasks: Tasks, context: Context, cluster: ClusterTasks
) -> dict[str, Task[str | None]]:
    """Load each external image that the engine has; kind nodes pull the others."""
    used = (one for references in context.plan.external.values() for one in references)
    return {
        reference: tasks.add(
            f'the load of image "{reference}"',
            partial(_load_external, context, reference, cluster),
            after=[cluster.checked],
        )
        for reference in dict.fromkeys(used)
    }


def add_loads(
    tasks: Tasks, context: Context, built: Mapping[str, Task[BuiltImage]], cluster: ClusterTasks
) -> dict[str, Task[str]]:
    """Load each image that a service runs as soon as it is built and kind nodes take it."""
    used = {name for service in context.plan.services for name in service.images}
    return {
        name: tasks.add(
            f'the load of image "{name}"',
            partial(_load, context, built, name, cluster),
            after=[built[name], cluster.nodes],
        )
        for name in sorted(used)
    }


def add_services(
    tasks: Tasks,
    context: Context,
    services: Mapping[str, ServiceTask],
    cluster: ClusterTasks,
    images: ImageTasks,
) -> None:
    """Deploy each service once its images are loaded and its needs have come far enough."""
    for service in context.plan.services:
        task = services[service.name]
        here = cluster.answering if service.before == "nodes" else cluster.ready
        needs = [services[need.name].at(need.level) for need in service.needs]
        tasks.begin(
            task.ready,
            partial(_deploy, context, service, cluster, here, images, services),
            after=[here, *_tasks_of(service, context, images), *needs],
            reaching=task.points,
            failed=partial(fail_service, context, service),
        )


def await_tasks(context: Context, tasks: Iterable[Task[Any]]) -> None:
    """Return when all of these have ended, and tell the hooks each second what still runs."""
    timeline, hooks = context.tools.timeline, context.hooks
    try:
        await_all(tasks, every=_HEARTBEAT, heartbeat=lambda: hooks.heartbeat(timeline.running))
    except BaseException as error:  # a bug of this project, or Ctrl-C: no task may go on
        context.failure.end("the bring-up", error)
        raise


def close_cluster(cluster: ClusterTasks) -> None:
    """End the threads that watch the cluster."""
    if kube := cluster.ready.made:
        kube.close()


def layers_seen(cluster: ClusterTasks) -> dict[str, dict[str, int]]:
    """Return what loads found out of images: full reference to layers, digest to bytes."""
    loader = cluster.nodes.made
    return loader.layers if loader else {}


def tear_down(name: str, *, tools: Tools, kubeconfig: Path, deadline: Deadline) -> None:
    """Delete the cluster `name`; do nothing if there is none.

    A creation that was cut short may have asked the engine for a container that appears only
    after the deletion; so the cluster is looked for once more, for a few seconds.

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


def _check(steps: ClusterSteps, preflight: Callable[[], None]) -> str:
    version = steps.check()
    preflight()  # last: no cluster is made if it raises
    return version


def _await_pods(
    steps: ClusterSteps,
    context: Context,
    cluster: Cluster,
    registries: Registries,
    answering: Task[Kube],
    first: Iterable[Task[Any]],
) -> Kube:
    """Wait until pods can run, delete what is no longer declared, and write the result."""

    def answers(kube: Kube) -> None:
        answering.reach(kube)
        for service in first:  # without these the nodes do not get Ready
            service.result()

    kube = steps.await_pods(cluster, registries.announced, answers)
    if cluster.reused_dir and context.request.reuse and context.request.reuse.knows_all:
        forget_undeclared(kube, RunDirectory(cluster.reused_dir), context.plan.declaration)
    context.run.settle(ClusterReady.of(cluster, namespace=context.request.namespace))
    answering.reach(kube)
    return kube


def _fail_cluster(context: Context, error: BaseException) -> None:
    context.run.fail(ClusterReady, context.failure_of(error, subject=CLUSTER))


def _build(
    builds: Builds, image: Image, bases: list[Task[BuiltImage]], names: Task[Circumstances]
) -> BuiltImage:
    return builds.bring(image, [one.result() for one in bases], names.result)


def _load(
    context: Context, built: Mapping[str, Task[BuiltImage]], name: str, cluster: ClusterTasks
) -> str:
    loader, image = cluster.nodes.result(), built[name].result()
    reference = as_loaded(context, cluster.registries.result(), image)
    loader.more_come = lambda: not all(one.future.done() for one in built.values())
    runs = _load_to_last(context, cluster, name, reference)
    if runs != image.reference:
        context.run.write(ImageLoaded(reference=runs), name)
    return runs


def _load_external(context: Context, reference: str, cluster: ClusterTasks) -> str | None:
    if not context.tools.engine.image_ids([reference], context.deadline()):
        return None
    return _load_to_last(context, cluster, reference, reference)


def _load_to_last(context: Context, cluster: ClusterTasks, name: str, reference: str) -> str:
    """Load an image; again if the cluster could not be restored, and was created again meanwhile.

    The kind node has the same name then, and the loader asks itself what it has.
    """
    loader, own = cluster.nodes.result(), context.tools.own
    while True:
        generation, error = own.generation, None
        try:
            runs = loader.load(name, reference, context.deadline())
        except KindInfraError as failed:
            runs, error = "", failed
        if own.restoring:
            cluster.created.result()
        if generation != own.generation:
            continue
        if error:
            raise error
        return runs


def _images_elsewhere(
    tasks: Tasks,
    context: Context,
    builds: Builds | Mapping[str, Task[BuiltImage]],
    cluster: ClusterTasks,
) -> ImageTasks:
    """Return the images of a cluster that pulls all of them itself."""
    built = (
        add_builds(tasks, context, builds, after=cluster.checked)
        if isinstance(builds, Builds)
        else builds
    )
    pushed = {
        name: tasks.add(f'image "{name}"', partial(_pushed, context, name, task), after=[task])
        for name, task in built.items()
    }
    pull = tasks.add("the pull secret", lambda: find_pull_secret(context), after=[cluster.checked])
    return ImageTasks(built, pushed, {}, pull)


def _pushed(context: Context, name: str, task: Task[BuiltImage]) -> str:
    image = task.result()
    runs = image.pushed or image.reference
    if runs != image.reference:
        context.run.write(ImageLoaded(reference=runs), name)
    return runs


def _tasks_of(service: Service, context: Context, images: ImageTasks) -> list[Task[Any]]:
    """Return the tasks that bring what a service runs into the kind nodes."""
    foreign = context.plan.external.get(service.name, ())
    uses = (*context.plan.image_uses.get(service.name, {}).values(), *service.images)
    loaded: list[Task[Any]] = [*(images.loaded[one] for one in uses), *filter(None, [images.pull])]
    return [*(images.external[ref] for ref in foreign if ref in images.external), *loaded]


def _in_use(service: Service, context: Context, images: ImageTasks) -> ImagesInUse:
    """Return what references in manifests become, once the tasks of the service are done."""
    uses = context.plan.image_uses.get(service.name, {})
    foreign = context.plan.external.get(service.name, ())
    found = {ref: images.external[ref].result() for ref in foreign if ref in images.external}
    there = {ref: name for ref, name in found.items() if name}
    others = {ref: name for ref, name in there.items() if name != ref}
    return ImagesInUse(
        written={**others, **{ref: images.loaded[name].result() for ref, name in uses.items()}},
        loaded=frozenset(ref for ref, name in there.items() if name == ref),
        declared={name: images.loaded[name].result() for name in service.images},
        pull=images.pull.result() if images.pull else None,
    )


def _deploy(
    context: Context,
    service: Service,
    cluster: ClusterTasks,
    here: Task[Kube],
    images: ImageTasks,
    services: Mapping[str, ServiceTask],
) -> Any:
    in_use = _in_use(service, context, images)
    return deploy_service(
        context, service, cluster.created.result(), here.result(), in_use, services
    )

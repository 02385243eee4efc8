"""A stack that a script brings up piece by piece, and the stages that need a cluster.

    from pytest_kindinfra import build_and_deploy, create_cluster, resolve

    with create_cluster(resolve(folder="shop")) as stack:
        build_and_deploy(stack, "web")
        print(stack.url("web"))

The cluster belongs to the process that created it. If that process is killed, the next run on this
host deletes the cluster, as does `kindinfra gc`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from pytest_kindinfra.commands.images import given_options, new_run, new_tools, own_context
from pytest_kindinfra.errors import KindInfraError, did_you_mean, listed
from pytest_kindinfra.images.build import Builds
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.plan.graph import in_order
from pytest_kindinfra.plan.options import ignored_by
from pytest_kindinfra.run.prepare import Door, prepare
from pytest_kindinfra.run.recipe import (
    ClusterTasks,
    ImageTasks,
    add_cluster,
    add_stack,
    await_tasks,
    close_cluster,
    layers_seen,
    tear_down,
)
from pytest_kindinfra.run.serving import service_tasks
from pytest_kindinfra.run.supply import as_loaded
from pytest_kindinfra.run.tasks import Tasks, given
from pytest_kindinfra.run.teardown import keep_evidence
from pytest_kindinfra.state.records import ImageReady, PlanMade, ServiceReady
from pytest_kindinfra.state.results import Failed
from pytest_kindinfra.state.runnames import new_run_id
from pytest_kindinfra.system.interrupts import deferring
from pytest_kindinfra.system.timeline import Deadline
from pytest_kindinfra.wiring import tools_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pytest_kindinfra.context import Context
    from pytest_kindinfra.model import BuiltImage, Endpoint, Phase, Plan, Service


_DELETE_SECONDS = 120.0


_EVIDENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class StackParts:
    """What lives as long as the cluster does; `images` are those that were loaded."""

    context: Context
    cluster: ClusterTasks
    cleanup: ExitStack
    images: dict[str, BuiltImage] = field(default_factory=dict)
    process: int = field(default_factory=os.getpid)


class OwnStack(Stack):
    """A stack that this process brings up piece by piece; a `with` block deletes it at its end."""

    def __init__(self, parts: StackParts) -> None:
        super().__init__(parts.context.run, waits=False)
        self.parts = parts

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete the cluster."""
        delete_cluster(self)


def create_cluster(
    plan: Plan,
    *,
    name: str | None = None,
    kubeconfig: Path | str | None = None,
    context: str | None = None,
    timeout: float | None = None,
    artifacts: Path | str | None = None,
    progress: Callable[[Phase, bool], None] | None = None,
) -> OwnStack:
    """Create a kind cluster with ports for all declared endpoints, or enter an existing cluster.

    Args:
        plan: What `resolve` returned.
        name: kind's name for it; None means `--kindinfra-cluster-name`'s value, or a new one.
        kubeconfig: Of an existing cluster to use, of which only the objects that this process
            makes are deleted; None means `--kindinfra-kubeconfig`'s value, or a new cluster.
        context: Which of the kubeconfig's contexts; None means `--kindinfra-context`'s value.
        timeout: Seconds for each piece of work; None means `--kindinfra-timeout`'s value.
        artifacts: Where to leave logs, in a folder of their own; None means
            `--kindinfra-artifacts`'s value.
        progress: Called with each phase at its start (False) and end (True), from threads.

    Returns:
        The stack, with no service yet but those that come before the nodes. Use it in a `with`
        block, or call `delete_cluster`.

    Raises:
        DeclarationError: An argument or option cannot be used, or the plan cannot come up on this
            machine; all problems.
        ToolMissingError: Engine or kind is missing.
        KindInfraError: It did not come up; nothing is left but the evidence.
    """
    given = {
        "cluster_name": name,
        "kubeconfig": kubeconfig,
        "context": context,
        "timeout": timeout,
        "artifacts": artifacts,
    }
    prepared = prepare(
        plan.declaration,
        plan,
        option=given_options(given),
        door=Door(purpose="run", run_id=new_run_id(), ignored=ignored_by("functions")),
    )
    tools = new_tools(prepared, progress=progress)
    with ExitStack() as cleanup:
        run = cleanup.enter_context(new_run(prepared))
        tools = tools_for(prepared.request, run.kubeconfig, tools)
        cleanup.callback(tools.closing.close)
        around = own_context(prepared, tools=tools, run=run)
        run.settle(PlanMade.of(plan, engine=tools.engine.name))
        line, images = _create(around)
        parts = StackParts(around, line, cleanup.pop_all(), images)
    return OwnStack(parts)


def delete_cluster(stack: OwnStack) -> None:
    """Delete the cluster and all that is in it; nothing happens the second time.

    Nothing happens either in a process that was forked from the one which created it.

    Args:
        stack: What `create_cluster` returned.

    Raises:
        CommandError: It could not be deleted.
    """
    parts = stack.parts
    if parts.process != os.getpid():
        return
    with parts.cleanup:
        if not parts.context.run.is_closed:
            end_cluster(parts.context)
            close_cluster(parts.cluster)
            stack.close()


def _create(context: Context) -> tuple[ClusterTasks, dict[str, BuiltImage]]:
    if context.request.existing is None:  # else it is needed for kind nodes only
        context.tools.engine.check(context.deadline())
    try:
        return _create_to_its_end(context)
    except BaseException:
        with suppress(KindInfraError):
            _keep(context)
        end_cluster(context)
        raise


def _create_to_its_end(context: Context) -> tuple[ClusterTasks, dict[str, BuiltImage]]:
    """Return when pods can run; raise once no task works on the cluster any more.

    Services that come before the nodes are brought up with it, and their images built for them.
    """
    made = context.request.existing is None  # an existing cluster has what its nodes need
    early = context_for(
        context, [one for one in context.plan.services if made and one.before == "nodes"]
    )
    images: ImageTasks | None = None
    with Tasks() as tasks:
        builds, services = Builds(early), service_tasks(early.plan)
        cluster = add_cluster(tasks, context, services, preflight=builds.find)
        try:
            if services:
                images = add_stack(tasks, early, builds, services, cluster)
                await_tasks(early, [one.ready for one in services.values()])
            cluster.ready.future.result()
        except BaseException:
            context.cancelled.set()  # programs are ended, then threads
            raise
    return cluster, {one.name: one for one in images.brought} if images else {}


def context_for(context: Context, services: list[Service]) -> Context:
    """Return a bring-up of just these services, which need nothing else any more.

    The objects of all others stay known.
    """
    plan, names = context.plan, {service.name for service in services}
    used = {name for service in services for name in service.images}
    images = {image.name: image for image in plan.images}
    order = in_order(used, {image.name: image.needs for image in plan.images})
    narrow = replace(
        plan,
        services=tuple(
            replace(one, needs=tuple(need for need in one.needs if need.name in names))
            for one in services
        ),
        images=tuple(images[name] for name in order),
        external={name: refs for name, refs in plan.external.items() if name in names},
    )
    return replace(context, plan=narrow)


def _keep(context: Context) -> None:
    keep_evidence(
        context.request.cluster,
        folder=context.run.path,
        provider=context.tools.provider,
        namespaces=[context.request.namespace],
        redactor=context.tools.redactor,
        deadline=Deadline.after(_EVIDENCE_SECONDS),
    )


def end_cluster(context: Context) -> None:
    """Delete the cluster if this run may have made one."""
    with deferring():
        context.cancelled.set()
        if context.tools.own.begun:
            tear_down(
                context.request.cluster,
                tools=context.tools,
                kubeconfig=context.run.kubeconfig,
                deadline=Deadline.after(_DELETE_SECONDS),
            )
        for watcher in context.watchers:
            watcher.join()
        context.run.close()


def load_images(stack: OwnStack, images: Mapping[str, BuiltImage]) -> None:
    """Load images into all kind nodes that lack them, in one stream.

    Args:
        stack: What `create_cluster` returned.
        images: Declared name to image: what `build_images` returned.

    Raises:
        KindInfraError: One could not be loaded.
    """
    loader, context = stack.parts.cluster.nodes.result(), stack.parts.context
    registries = stack.parts.cluster.registries.result()
    names = {as_loaded(context, registries, image): name for name, image in images.items()}
    loader.load_together(names, context.deadline())
    for name, image in images.items():
        context.run.write(ImageReady(image=image), name)
    stack.parts.images.update(images)


def deploy_service(stack: OwnStack, service: str) -> tuple[Endpoint, ...]:
    """Apply a service's objects, and wait until it is ready and its endpoints have answered.

    Args:
        stack: What `create_cluster` returned.
        service: Its name; what it needs must be deployed, and its images loaded.

    Returns:
        Its endpoints; at a second call what the first one found.

    Raises:
        KindInfraError: It did not become ready, or a need of it is missing.
    """
    (wanted,) = _services(stack, [service])
    if not _is_settled(stack, wanted):
        _refuse_early(stack, wanted)
        context = context_for(stack.parts.context, [wanted])
        built = {name: given(f'image "{name}"', one) for name, one in stack.parts.images.items()}
        cluster, services = stack.parts.cluster, service_tasks(context.plan)
        with Tasks() as tasks:
            add_stack(tasks, context, built, services, cluster)
            await_tasks(context, [one.ready for one in services.values()])
    return stack.endpoints(service)


def build_and_deploy(stack: OwnStack, *services: str) -> dict[str, tuple[Endpoint, ...]]:
    """Build, load and deploy services with all that they need, as much as possible in parallel.

    Nothing is built that was built before from the same files, nothing deployed a second time.

    Args:
        stack: What `create_cluster` returned.
        services: Their names; none means all of the plan.

    Returns:
        Service to its endpoints, for the services named.

    Raises:
        KindInfraError: Some did not become ready; the text holds all causes.
    """
    plan = stack.parts.context.plan
    needs = {one.name: [need.name for need in one.needs] for one in plan.services}
    named = [one.name for one in _services(stack, services or needs)]
    wanted = _services(stack, in_order(named, needs))
    context = context_for(stack.parts.context, _unsettled(stack, wanted))
    cluster, task_of = stack.parts.cluster, service_tasks(context.plan)
    with Tasks() as tasks:
        builds = Builds(context)
        builds.find()
        images = add_stack(tasks, context, builds, task_of, cluster)
        await_tasks(context, [one.ready for one in task_of.values()])
    builds.remember(images.brought, layers_seen(cluster))
    _raise_failures(stack, wanted)
    stack.parts.images.update({name: one.result() for name, one in images.built.items()})
    return {name: stack.endpoints(name) for name in named}


def _services(stack: OwnStack, names: Iterable[str]) -> list[Service]:
    services = {one.name: one for one in stack.parts.context.plan.services}
    for name in names:
        if name not in services:
            hint = did_you_mean(name, services) or f"; it has: {listed(services)}"
            msg = f'the plan has no service "{name}"{hint}'
            raise KindInfraError(msg)
    return [services[name] for name in names]


def _unsettled(stack: OwnStack, services: Iterable[Service]) -> list[Service]:
    return [one for one in services if not _is_settled(stack, one)]


def _is_settled(stack: OwnStack, service: Service) -> bool:
    """Whether it is ready or failed, which it stays for as long as the cluster."""
    return stack.parts.context.run.is_settled(ServiceReady, service.name)


def _refuse_early(stack: OwnStack, service: Service) -> None:
    needs = _services(stack, [need.name for need in service.needs])
    if missing := [need.name for need in needs if not _is_settled(stack, need)]:
        msg = (
            f'service "{service.name}" needs {", ".join(missing)}, not deployed yet\n'
            "To fix: deploy what it needs first, or call build_and_deploy"
        )
        raise KindInfraError(msg)
    _raise_failures(stack, needs)
    if missing := [name for name in service.images if name not in stack.parts.images]:
        msg = (
            f'service "{service.name}" runs {", ".join(missing)}, not loaded yet\n'
            "To fix: load_images(stack, build_images(plan)), or call build_and_deploy"
        )
        raise KindInfraError(msg)


def _raise_failures(stack: OwnStack, services: Iterable[Service]) -> None:
    """Raise if some failed, with each cause once."""
    run = stack.parts.context.run
    results = [run.settled(ServiceReady, service.name) for service in services]
    causes = {one.root: one for one in results if isinstance(one, Failed)}
    if causes:
        texts = [f"{root} {one.verb}:\n{one.full}" for root, one in causes.items()]
        raise KindInfraError("\n".join([*texts, f"logs and details: {run.path}"]))

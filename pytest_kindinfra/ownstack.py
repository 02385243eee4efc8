"""A stack that a script brings up piece by piece: its cluster's beginning and end.

The cluster belongs to the process that made it. Should that die, the next run of anybody deletes
it, as does `kindinfra gc`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.graph import in_order
from pytest_kindinfra.interrupts import deferring
from pytest_kindinfra.library import make_context, new_run, settings_of, tools_for
from pytest_kindinfra.lines.builds import Builds
from pytest_kindinfra.lines.cluster import ClusterLine
from pytest_kindinfra.lines.images import ImageLines
from pytest_kindinfra.lines.service import Reached
from pytest_kindinfra.planning import problems_of_making, problems_of_mounts
from pytest_kindinfra.stack import (
    CLUSTER_THREADS,
    before_nodes,
    bring_up_services,
    lines_pool,
    tear_down,
)
from pytest_kindinfra.steps.diagnose import keep_evidence
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.view import Stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import BuiltImage, Phase, Plan, Service

_DELETE_SECONDS = 120.0
_EVIDENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Life:
    """What lives as long as the cluster does; `images` are those that were loaded."""

    context: Context
    line: ClusterLine
    held: ExitStack
    images: dict[str, BuiltImage] = field(default_factory=dict)
    process: int = field(default_factory=os.getpid)


class OwnStack(Stack):
    """A stack that this process brings up piece by piece; a `with` block deletes it at its end."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.context.run, waits=False)
        self.life = life

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
    timeout: float | None = None,
    artifacts: Path | str | None = None,
    progress: Callable[[Phase, bool], None] | None = None,
) -> OwnStack:
    """Create a kind cluster with ports for all declared endpoints, ready for pods.

    Args:
        plan: What `resolve` returned.
        name: kind's name for it; None means `--kindinfra-cluster-name`'s value, or a new one.
        timeout: Seconds for each piece of work; None means `--kindinfra-timeout`'s value.
        artifacts: Where to leave logs, in a folder of their own; None means
            `--kindinfra-artifacts`'s value.
        progress: Called with each phase at its start (False) and end (True), from threads.

    Returns:
        The stack, with no service yet but those that come before the nodes. Use it in a `with`
        block, or call `delete_cluster`.

    Raises:
        DeclarationError: An argument or option cannot be used.
        ToolMissingError: Engine or kind is not there.
        KindInfraError: It did not come up; nothing is left but the evidence.
    """
    given = {"cluster_name": name, "timeout": timeout, "artifacts": artifacts}
    settings = settings_of(plan.declaration, given)
    tools = tools_for(plan, settings, progress=progress)
    with ExitStack() as held:
        run = held.enter_context(new_run(plan, settings))
        context = make_context(plan, settings, tools=tools, run=run)
        problems = [
            *problems_of_mounts(context.request, replace(settings, kubeconfig=None)),
            *problems_of_making(plan, context.request, settings),
        ]
        if problems:
            raise DeclarationError(problems)
        names = [service.name for service in plan.services]
        run.write("plan", {"services": names, "engine": tools.engine.name})
        line, images = _create(context)
        life = Life(context, line, held.pop_all(), images)
    return OwnStack(life)


def delete_cluster(stack: OwnStack) -> None:
    """Delete the cluster and all that is in it; nothing happens the second time.

    Nothing happens either in a process that was forked from the one which created it.

    Args:
        stack: What `create_cluster` returned.

    Raises:
        CommandError: It could not be deleted.
    """
    life = stack.life
    if life.process != os.getpid():
        return
    with life.held:
        if not life.context.run.read("closed"):
            _end(life.context)
            life.line.close()
            stack.close()


def _create(context: Context) -> tuple[ClusterLine, dict[str, BuiltImage]]:
    context.tools.engine.check(context.deadline())
    try:
        return _create_to_its_end(context)
    except BaseException:
        with suppress(KindInfraError):
            _keep(context)
        _end(context)
        raise


def _create_to_its_end(context: Context) -> tuple[ClusterLine, dict[str, BuiltImage]]:
    """Return when the cluster takes pods; with an error, once nobody works on it any more.

    Services that come before the nodes are brought up with it, and their images built for them.
    """
    early = context_for(context, [one for one in context.plan.services if one.before == "nodes"])
    reached = {one.name: Reached() for one in early.plan.services}
    builds = Builds(early)
    with lines_pool(early, more=CLUSTER_THREADS) as pool:
        first = before_nodes(early.plan, reached)
        line = ClusterLine(context, pool, also=builds.look, first=first)
        try:
            if first:
                images = ImageLines(early, line, builds, pool)
                bring_up_services(early, line, images, pool, reached)
            line.taking_pods.result()
        except BaseException:
            context.cancelled.set()  # programs are ended, then threads
            raise
    return line, {name: one.result() for name, one in builds.built.items()} if first else {}


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


def _end(context: Context) -> None:
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

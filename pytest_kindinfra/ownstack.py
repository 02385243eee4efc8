"""A stack that a script brings up piece by piece: its cluster's beginning and end.

The cluster belongs to the process that made it. Should that die, the next run of anybody deletes
it, as does `kindinfra gc`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.interrupts import deferring
from pytest_kindinfra.library import make_context, new_run, settings_of, tools_for
from pytest_kindinfra.lines.cluster import ClusterLine
from pytest_kindinfra.stack import CLUSTER_THREADS, tear_down
from pytest_kindinfra.steps.diagnose import keep_evidence
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.view import Stack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.lines.context import Context
    from pytest_kindinfra.model import BuiltImage, Phase, Plan

_DELETE_SECONDS = 120.0
_EVIDENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Life:
    """What lives as long as the cluster does; `images` are those that were loaded."""

    context: Context
    line: ClusterLine
    held: ExitStack
    images: dict[str, BuiltImage] = field(default_factory=dict)


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
        The stack, with no service yet. Use it in a `with` block, or call `delete_cluster`.

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
        names = [service.name for service in plan.services]
        run.write("plan", {"services": names, "engine": tools.engine.name})
        life = Life(context, _create(context), held.pop_all())
    return OwnStack(life)


def delete_cluster(stack: OwnStack) -> None:
    """Delete the cluster and all that is in it; nothing happens the second time.

    Args:
        stack: What `create_cluster` returned.

    Raises:
        CommandError: It could not be deleted.
    """
    life = stack.life
    with life.held:
        if not life.context.run.read("closed"):
            _end(life.context)
            life.line.close()
            stack.close()


def _create(context: Context) -> ClusterLine:
    context.tools.engine.check(context.deadline())
    try:
        return _create_to_its_end(context)
    except BaseException:
        with suppress(KindInfraError):
            _keep(context)
        _end(context)
        raise


def _create_to_its_end(context: Context) -> ClusterLine:
    """Return when the cluster takes pods; with an error, once nobody works on it any more."""
    with ThreadPoolExecutor(CLUSTER_THREADS) as pool:
        line = ClusterLine(context, pool, also=lambda: None)
        try:
            line.taking_pods.result()
        except BaseException:
            context.cancelled.set()  # programs are ended, then threads
            raise
    return line


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
        if context.run.read("cluster-name"):
            tear_down(
                context.request.cluster,
                tools=context.tools,
                kubeconfig=context.run.kubeconfig,
                deadline=Deadline.after(_DELETE_SECONDS),
            )
        for watcher in context.watchers:
            watcher.join()
        context.run.close()

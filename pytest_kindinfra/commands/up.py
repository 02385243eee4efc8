"""`kindinfra up`: what a run with reuse brings up, without tests. Hooks are not called."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pytest_kindinfra.commands.images import new_folder, new_tools, prepare_services
from pytest_kindinfra.context import Hooks
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.options import ignored_by
from pytest_kindinfra.run.prepare import Door
from pytest_kindinfra.run.provisioning import Provisioning
from pytest_kindinfra.run.teardown import Started, closing_lines, end
from pytest_kindinfra.state.directory import new_run_id
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import PlanMade
from pytest_kindinfra.system.interrupts import Haste, deferring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kindinfra.model import Phase
    from pytest_kindinfra.run.prepare import Prepared
    from pytest_kindinfra.state.directory import RunDirectory


_NO_HOOKS = SimpleNamespace(
    pytest_kindinfra_diagnose=lambda **_: None, pytest_kindinfra_before_teardown=lambda **_: None
)


def up(
    services: Sequence[str],
    *,
    cluster: str | None,
    progress: Callable[[Phase, bool], None],
    say: Callable[[str], None],
    width: int,
    color: bool,
) -> bool:
    """Bring services up on the cluster that runs with reuse share, and leave them there.

    Args:
        services: Their names; none means all that are declared.
        cluster: kind's name for the cluster if not what the options say.
        progress: Called with each phase at its start and end.
        say: Shows a line.
        width: Columns of the terminal.
        color: Whether escape codes are wanted.

    Returns:
        Whether all is ready.

    Raises:
        DeclarationError: The declaration or an option is wrong.
    """
    prepared = _prepare(services, cluster)
    run = new_folder(prepared)
    with ExitStack() as cleanup:
        lock = hold(run.lock)
        cleanup.callback(lock.release)
        started = Started(prepared=prepared, tools=new_tools(prepared, progress=progress))
        interrupted = _bring_up(started, run, say, cleanup)
        with deferring() as interrupts:
            interrupts.hurried = interrupted  # no evidence of what was interrupted
            outcome = end(
                started,
                run,
                hook=_NO_HOOKS,
                write=say,
                failed=False,
                interrupted=interrupted,
                interrupts=interrupts,
            )
        for line in closing_lines(started, run, outcome, width=width, color=color):
            say(line)
        for line in _endpoint_lines(run, prepared):
            say(line)
    if interrupted:
        raise KeyboardInterrupt
    return outcome.state == "passed"


def _prepare(services: Sequence[str], cluster: str | None) -> Prepared:
    return prepare_services(
        declaration_folder(Path.cwd()),
        services or None,
        options={"reuse": True, "cluster_name": cluster},
        door=Door(purpose="run", run_id=new_run_id(), ignored=ignored_by("command")),
    )


def _bring_up(
    started: Started, run: RunDirectory, say: Callable[[str], object], cleanup: ExitStack
) -> bool:
    """Bring it up and settle every result; return whether it was interrupted."""
    run.settle(PlanMade.of(started.prepared.plan, engine=started.tools.engine.name))
    work = Provisioning(
        started=started, run=run, hooks=Hooks(say=say), haste=Haste(), cleanup=cleanup
    )
    return isinstance(work.run_to_its_end(watching=False), KeyboardInterrupt)


def _endpoint_lines(run: RunDirectory, prepared: Prepared) -> Iterator[str]:
    """Yield where the services that are ready answer."""
    stack = Stack(run, waits=False)
    for service in prepared.plan.services:
        with suppress(KindInfraError):
            for one in stack.endpoints(service.name):
                yield f"  {f'{one.service}.{one.name}':<32} {one.url}"

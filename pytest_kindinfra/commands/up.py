"""`kindinfra up`: what a run with reuse brings up, without tests. Hooks are not called."""

from __future__ import annotations

import os
import shlex
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.kubeconfigs import option_words
from pytest_kindinfra.commands.forwarding import is_forwarded
from pytest_kindinfra.commands.images import new_folder, new_tools, prepare_services
from pytest_kindinfra.context import Hooks
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.options import ignored_by
from pytest_kindinfra.run.live import Board, NoBoard, is_for_a_person, open_board
from pytest_kindinfra.run.observer import Observer
from pytest_kindinfra.run.prepare import Door
from pytest_kindinfra.run.progress import failures_only
from pytest_kindinfra.run.provisioning import Provisioning
from pytest_kindinfra.run.teardown import Started, closing_lines, end
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.records import DeployedService, PlanMade
from pytest_kindinfra.state.runnames import new_run_id
from pytest_kindinfra.system.interrupts import Haste, deferring
from pytest_kindinfra.system.timeline import now
from pytest_kindinfra.wiring import tools_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import Phase
    from pytest_kindinfra.run.prepare import Prepared
    from pytest_kindinfra.state.directory import RunDirectory


_NO_HOOKS = SimpleNamespace(
    pytest_kindinfra_diagnose=lambda **_: None, pytest_kindinfra_before_teardown=lambda **_: None
)


_NO_BOARD = NoBoard()


def up(
    services: Sequence[str],
    *,
    cluster: Mapping[str, Any],
    progress: Callable[[Phase, bool], None],
    say: Callable[[str], None],
    width: int,
    color: bool,
) -> bool:
    """Bring services up on the cluster that runs with reuse share, and leave them there.

    That may be an existing cluster; then only what this declaration says is changed there.

    If standard output is a terminal with a person before it, a board is shown instead of lines.

    Args:
        services: Their names; none means all that are declared.
        cluster: The options that name the cluster: key as in `[options]` to value.
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
        board = _open_board(prepared, color=color)
        cleanup.callback(board.close)
        watch = progress if board is _NO_BOARD else failures_only(say, now())
        tools = new_tools(prepared, progress=watch)
        tools = tools_for(prepared.request, run.kubeconfig, tools)
        started = Started(prepared=prepared, tools=tools)
        interrupted = _bring_up(started, run, say, cleanup, board)
        board.end()
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
        board.close()
        for line in closing_lines(started, run, outcome, width=width, color=color):
            say(line)
        for line in _endpoint_lines(run, prepared):
            say(line)
    if interrupted:
        raise KeyboardInterrupt
    return outcome.state == "passed"


def _prepare(services: Sequence[str], cluster: Mapping[str, Any]) -> Prepared:
    return prepare_services(
        declaration_folder(Path.cwd()),
        services or None,
        options={"reuse": True, **cluster},
        door=Door(purpose="run", run_id=new_run_id(), ignored=ignored_by("command")),
    )


def _open_board(prepared: Prepared, *, color: bool) -> Board:
    if not is_for_a_person(prepared.settings, os.environ):
        return _NO_BOARD
    return open_board(prepared, since=now(), color=color) or _NO_BOARD


def _bring_up(
    started: Started,
    run: RunDirectory,
    say: Callable[[str], object],
    cleanup: ExitStack,
    board: Board,
) -> bool:
    """Bring it up and settle every result; return whether it was interrupted."""
    plan, tools = started.prepared.plan, started.tools
    run.settle(PlanMade.of(plan, engine=tools.engine.name))
    observer = Observer(
        plan, run, timeline=tools.timeline, redactor=tools.redactor, send=board.take
    )
    tools.timeline.subscribe(observer)
    hooks = Hooks(say=say, heartbeat=lambda _: observer.look())
    work = Provisioning(started=started, run=run, hooks=hooks, haste=Haste(), cleanup=cleanup)
    return isinstance(work.run_to_its_end(watching=False), KeyboardInterrupt)


def _endpoint_lines(run: RunDirectory, prepared: Prepared) -> Iterator[str]:
    """Yield where the services that are ready answer; in an existing cluster, how to get there."""
    stack, forwarded = Stack(run, waits=False), False
    for service in prepared.plan.services:
        record = run.read(DeployedService, service.name) if prepared.request.existing else None
        with suppress(KindInfraError):
            for one in stack.endpoints(service.name):
                if record and is_forwarded(record, one.name):
                    forwarded = True
                    continue
                yield f"  {f'{one.service}.{one.name}':<32} {one.url}"
    if forwarded:
        words = ["kindinfra", "url", "--forward", *option_words(prepared.settings), "SERVICE"]
        yield f"  forward:   {shlex.join(words)}"

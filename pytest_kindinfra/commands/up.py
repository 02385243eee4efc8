"""`kindinfra up`: what a run with reuse brings up, without tests. Hooks are not called."""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from pytest_kindinfra.commands.images import new_folder, resolve, settings_of, tools_for
from pytest_kindinfra.context import Hooks, new_context
from pytest_kindinfra.errors import DeclarationError, KindInfraError, StateError
from pytest_kindinfra.plan.finding import declaration_folder
from pytest_kindinfra.plan.resolve import keep_out
from pytest_kindinfra.run.prepare import (
    Order,
    make_request,
    problems_of_host,
    problems_of_making,
    problems_of_mounts,
)
from pytest_kindinfra.run.recipe import bring_up
from pytest_kindinfra.run.teardown import Started, closing_lines, end
from pytest_kindinfra.state.locks import hold
from pytest_kindinfra.state.results import failure_record
from pytest_kindinfra.state.stack import Stack
from pytest_kindinfra.system.interrupts import deferring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kindinfra.context import Request
    from pytest_kindinfra.model import Phase
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
    order = _order(services, cluster)
    run = new_folder(order.plan, order.settings)
    with ExitStack() as held:
        lock = hold(run.lock)
        held.callback(lock.release)
        started = Started(
            order=order,
            tools=tools_for(order.plan, order.settings, progress=progress),
            thread=threading.current_thread(),
            lock=lock,
        )
        interrupted = _bring_up(started, run, say, held)
        with deferring() as interrupts:
            interrupts.hurried = interrupted  # no evidence of what somebody broke off
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
        for line in _endpoint_lines(run, order):
            say(line)
    if interrupted:
        raise KeyboardInterrupt
    return outcome.state == "passed"


def _order(services: Sequence[str], cluster: str | None) -> Order:
    plan = resolve(folder=declaration_folder(Path.cwd()), services=services or None)
    settings = settings_of(plan.declaration, {"reuse": True, "cluster_name": cluster})
    plan = keep_out(plan, settings.artifacts)
    request = _without_hooks(make_request(settings, plan, ""))
    problems = [
        *problems_of_mounts(request, settings),
        *problems_of_making(plan, request, settings),
        *problems_of_host(plan, request, settings.engine),
    ]
    if problems := list(dict.fromkeys(problems)):
        raise DeclarationError(problems)
    return Order(plan=plan, request=request, settings=settings)


def _without_hooks(request: Request) -> Request:
    """Return the request of somebody who does not know what hooks would add."""
    return replace(request, reuse=request.reuse and replace(request.reuse, knows_all=False))


def _bring_up(
    started: Started, run: RunDirectory, say: Callable[[str], object], held: ExitStack
) -> bool:
    """Bring it up and settle every result; return whether somebody interrupted it."""
    order, cancelled = started.order, threading.Event()
    run.write("plan", {"services": [service.name for service in order.plan.services]})
    watchers: list[threading.Thread] = []
    error: BaseException | None = None
    try:
        context = new_context(
            order.plan,
            replace(order.request, run_id=run.path.name),
            tools=started.tools,
            run=run,
            hooks=Hooks(say=say),
            cancelled=cancelled,
            watchers=watchers,
            held=held,
        )
        bring_up(context)
    except BaseException as raised:  # noqa: BLE001 - told as a result, or raised again at the end
        error = raised
    cancelled.set()
    for watcher in watchers:
        watcher.join()
    _settle_the_rest(started, run, error or KindInfraError("there is no result for it"))
    return isinstance(error, KeyboardInterrupt)


def _settle_the_rest(started: Started, run: RunDirectory, error: BaseException) -> None:
    names = {f"service-{one.name}": f'service "{one.name}"' for one in started.order.plan.services}
    for name, subject in {"cluster": "the cluster", **names}.items():
        with suppress(StateError):
            record = failure_record(error, subject=subject)
            run.settle(name, started.tools.redactor.record(record))


def _endpoint_lines(run: RunDirectory, order: Order) -> Iterator[str]:
    """Yield where the services that are ready answer."""
    stack = Stack(run, waits=False)
    for service in order.plan.services:
        with suppress(KindInfraError):
            for one in stack.endpoints(service.name):
                yield f"  {f'{one.service}.{one.name}':<32} {one.url}"

"""The process that brings the stack up: pytest's main process, or xdist's controller.

A thread brings the stack up while tests already run. Whatever happens to it, waiters in other
processes learn of it: by a result, or by a lock that is released. At the end everything is torn
down once.
"""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import sys
import threading
import warnings
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.system.interrupts import Interrupts, held

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pytest_kindinfra.context import Hooks, Tools
    from pytest_kindinfra.run.prepare import Prepared
    from pytest_kindinfra.run.teardown import Outcome, Started
    from pytest_kindinfra.session.options import FirstLook
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.locks import Lock


_NO_RESULT = "the bring-up ended without a result for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioning:
    """One bring-up in a thread.

    Attributes:
        prepared: What to bring up, and how.
        tools: Who does the work.
        run: Gets the results.
        config: Whose hooks are called.
        cancelled: Set when the run ends.
        beat: Called each second with what goes on.
        say: Called with lines for the user.
        held: Gets what is to be let go of after the run's end.
    """

    prepared: Prepared
    tools: Tools
    run: RunDirectory
    config: pytest.Config
    cancelled: threading.Event
    beat: Callable[..., object]
    say: Callable[[str], object]
    held: ExitStack

    def run_to_its_end(self, lock: Lock) -> None:
        """Bring the stack up, let go of the lock, and watch the cluster until the run ends.

        Args:
            lock: Held until every result is settled, or cannot be.
        """
        watchers: list[threading.Thread] = []
        try:
            error = self._bring_up(watchers)
            self._settle_rest(error or KindInfraError(_NO_RESULT))
        finally:
            lock.release()
        for watcher in watchers:  # no thread may outlive the run
            watcher.join()

    def _bring_up(self, watchers: list[threading.Thread]) -> BaseException | None:
        """Return what went wrong with the bring-up itself, as no part of the stack's failure."""
        try:
            from pytest_kindinfra.context import new_context
            from pytest_kindinfra.run.recipe import bring_up

            context = new_context(
                self.prepared.plan,
                self.prepared.request,
                tools=self.tools,
                run=self.run,
                hooks=self._hooks(),
                cancelled=self.cancelled,
                watchers=watchers,
                held=self.held,
            )
            bring_up(context)
        except BaseException as error:  # noqa: BLE001 - waiters in other processes must learn of it
            return error
        return None

    def _settle_rest(self, error: BaseException) -> None:
        from pytest_kindinfra.run.teardown import settle_rest

        settle_rest(self.prepared.plan, self.run, error=error, redactor=self.tools.redactor)

    def _hooks(self) -> Hooks:
        from pytest_kindinfra.context import Hooks

        hook = self.config.hook
        return Hooks(
            before_build=lambda image: hook.pytest_kindinfra_before_build(
                config=self.config, image=image
            ),
            before_deploy=hook.pytest_kindinfra_before_deploy,
            after_deploy=hook.pytest_kindinfra_after_deploy,
            beat=self.beat,
            say=self.say,
            deploying=any(
                caller.get_hookimpls()
                for caller in (
                    hook.pytest_kindinfra_before_deploy,
                    hook.pytest_kindinfra_after_deploy,
                )
            ),
        )


_JOIN = 30.0


_HURRIED_JOIN = 11.0
"""A little longer than a program gets to end when it is asked to, and then when it is killed."""


_LOOK_EVERY = 0.05


def new_controller(config: pytest.Config, first: FirstLook) -> Controller:
    """Return the controller of a new run; nothing is made on disk yet."""
    from pytest_kindinfra.run.report import count
    from pytest_kindinfra.state.directory import RunDirectory, new_run_id

    run_id = new_run_id()
    run = RunDirectory(config.rootpath / first.settings.artifacts / run_id)
    cluster = _cluster_name(first, config, run_id)
    declared = f"{count(first.services, 'service')} in {first.source}"
    if first.settings.kubeconfig:
        cluster = f"of {first.settings.kubeconfig}"
    engine = first.settings.engine
    about = f"cluster {cluster}, engine {engine}, {declared}" if first.source else ""
    return Controller(config, run, run_id, about=about)


def _cluster_name(first: FirstLook, config: pytest.Config, run_id: str) -> str:
    if first.settings.reuse and not first.settings.cluster_name:
        from pytest_kindinfra.state.reused import name_after

        return name_after(config.rootpath)
    return first.settings.cluster_name or f"kindinfra-{run_id}"


def _import_early() -> None:
    """Import what the threads need, before a test runs in this process.

    pytest swaps the filters of warnings for each test, and with `filterwarnings = error` an import
    in a thread meanwhile fails at what it would have ignored: `requests` does without PySocks.
    """
    for name in ("kubernetes.client", "kubernetes.config"):
        importlib.import_module(name)


class Controller:
    """Starts at most one bring-up, and ends it once."""

    def __init__(
        self, config: pytest.Config, run: RunDirectory, run_id: str, *, about: str
    ) -> None:
        self.run = run
        self._about = about
        self.meanwhile: Callable[[], None] = lambda: None
        self._config = config
        self._run_id = run_id
        self._process = os.getpid()
        self._refused = False
        self._started: Started | None = None
        self._ending: tuple[bool, bool] | None = None
        self._outcome: Outcome | None = None
        self._interrupts = Interrupts()
        self._given_up = False
        self._cancelled = threading.Event()
        self._held = ExitStack()

    # -- beginning ---------------------------------------------------------------------------

    def start(self, wanted: dict[str, Any]) -> None:
        """Bring up what the request wants; a second request of the same run changes nothing.

        Args:
            wanted: What `selection.request_of` returned.

        Raises:
            pytest.UsageError: The declaration, a mark or an option cannot work; all problems.
        """
        from pytest_kindinfra.session.planning import prepare_run

        if self._started:
            return
        try:
            prepared = prepare_run(self._config, wanted, self._run_id)
        except DeclarationError as error:
            self._refused = True
            raise pytest.UsageError(str(error)) from None
        self._interrupts.catch(sigint=self._has_workers())
        with held():  # begun wholly or not at all
            self._make_run_directory()
            self._launch(prepared, tests=wanted["tests"])

    def show_plan(self, wanted: dict[str, Any] | None) -> None:
        """Print what a run of the selected tests would do.

        Args:
            wanted: What `selection.request_of` returned.

        Raises:
            pytest.UsageError: The declaration, a mark or an option cannot work; all problems.
        """
        from pytest_kindinfra.session.planning import prepare_run

        if wanted is None:
            self._write("kindinfra: no selected test needs a cluster: none would be created")
            return
        try:
            prepared = prepare_run(self._config, wanted, self._run_id)
        except DeclarationError as error:
            raise pytest.UsageError(str(error)) from None
        self._show(prepared)

    def _has_workers(self) -> bool:
        """Whether the tests run in other processes than this one."""
        return self._config.pluginmanager.hasplugin("dsession")

    def _make_run_directory(self) -> None:
        try:
            self.run.make()
            self.run.reserve()
        except OSError as error:
            self._refused = True
            msg = (
                f"kindinfra: the run directory {self.run.path} cannot be written: "
                f"{error.strerror}\n"
                "To fix: make it writable, or --kindinfra-artifacts=DIR"
            )
            raise pytest.UsageError(msg) from None

    def _show(self, prepared: Prepared) -> None:
        from pytest_kindinfra.images.tags import look_up
        from pytest_kindinfra.run.report import plan_lines
        from pytest_kindinfra.wiring import make_tools

        engine = make_tools(prepared.settings.engine).engine
        self._write_notes(prepared)
        known, existing = look_up(prepared.plan, engine), prepared.settings.kubeconfig
        for line in plan_lines(prepared.plan, prepared.request, known, kubeconfig=existing):
            self._write(line)

    def _launch(self, prepared: Prepared, *, tests: int) -> None:
        from pytest_kindinfra.run.report import plan_line
        from pytest_kindinfra.run.teardown import Started
        from pytest_kindinfra.session.output import ProgressLines
        from pytest_kindinfra.state.locks import hold
        from pytest_kindinfra.system.timeline import now
        from pytest_kindinfra.wiring import make_tools, tools_for

        lock = hold(self.run.lock)
        tools = make_tools(prepared.settings.engine)
        tools = tools_for(prepared.request, self.run.kubeconfig, tools)
        names = [service.name for service in prepared.plan.services]
        env = dict(prepared.plan.declaration.env)
        self.run.write("plan", {"services": names, "engine": tools.engine.name, "env": env})
        line = plan_line(
            prepared.plan, tests=tests, cluster=prepared.request.cluster, engine=tools.engine.name
        )
        self._write(line)
        self._write_notes(prepared)
        progress = ProgressLines(self._config, how=prepared.settings.progress, since=now())
        tools.timeline.subscribe(progress)
        self.meanwhile = progress.let_out
        work = Provisioning(
            prepared=prepared,
            tools=tools,
            run=self.run,
            config=self._config,
            cancelled=self._cancelled,
            beat=progress.beat,
            say=progress.say,
            held=self._held,
        )
        thread = threading.Thread(
            target=work.run_to_its_end,
            args=(hold(self.run.provisioning),),
            name="kindinfra",
            daemon=True,
        )
        self._started = Started(prepared=prepared, tools=tools, thread=thread, lock=lock)
        atexit.register(self._end_at_exit, os.getpid())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            thread.start()
            if not self._has_workers():
                _import_early()

    # -- end ---------------------------------------------------------------------------------

    def end_cut_short(self) -> bool:
        """End the run after an interrupt that came out of pytest; return whether one was begun."""
        if self._started is None:
            return False
        self.finish(failed=False, interrupted=True)
        sys.stderr.write("kindinfra: interrupted again: pytest's own end was cut short\n")
        return True

    def give_signals_back(self) -> None:
        """Leave the handlers of signals as they were before the run."""
        self._interrupts.restore()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Let no further interrupt fall into what pytest does between this one and its end."""
        if self._started:
            self._interrupts.raised()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Let nothing wait any more, before xdist waits for workers that wait for services.

        A second interrupt may come while xdist does, or fixtures end: it hurries our end, and no
        more.
        """
        self.end_waits()
        self._interrupts.allow()
        try:
            return (yield)
        except KeyboardInterrupt:
            if self._started is None:
                raise
            self.finish(failed=bool(session.testsfailed), interrupted=True)
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            return None

    def end_waits(self) -> None:
        """Have waiters give up, here and in workers, as far as anything was begun."""
        if self._started and not self._is_forked():
            self._close()

    def _is_forked(self) -> bool:
        """Whether a test forked this process off and let it come back: it ends nothing."""
        return os.getpid() != self._process

    def _close(self) -> None:
        self._cancelled.set()
        with suppress(OSError):  # a full disk must not keep us from deleting the cluster
            self.run.close()

    def finish(self, *, failed: bool, interrupted: bool) -> bool:
        """End the run: evidence is kept, the cluster is deleted, the report written.

        A second call does nothing, unless the first was cut short. An interrupt cuts the evidence
        short and no more; the fifth leaves the cluster to the next run. In a
        process that a test forked off nothing happens: the run goes on in its parent.

        Args:
            failed: A test failed.
            interrupted: The run was ended before its end.

        Returns:
            Whether somebody was too impatient for the evidence.
        """
        if self._is_forked():
            return False
        if self._refused:
            shutil.rmtree(self.run.path, ignore_errors=True)  # workers' requests, and no more
        if (started := self._started) is None or self._outcome is not None or self._given_up:
            return False
        self._ending = self._ending or (failed, interrupted)
        try:
            with self._interrupts.deferred():
                self._finish(started, *self._ending)
        except KeyboardInterrupt:
            self._give_up(started)
        return self._interrupts.hurried

    def _finish(self, started: Started, failed: bool, interrupted: bool) -> None:  # noqa: FBT001 - as `_ending` holds them
        from pytest_kindinfra.run.teardown import end

        self._close()
        if started.thread.ident is not None:  # it was started
            self._join(started.thread)
        self._outcome = end(
            started,
            self.run,
            hook=self._config.hook,
            write=self._write,
            failed=failed,
            interrupted=interrupted,
            interrupts=self._interrupts,
        )
        self.meanwhile()
        self.run.release_reserve()
        self._held.close()
        started.lock.release()
        atexit.unregister(self._end_at_exit)

    def _join(self, thread: threading.Thread) -> None:
        """Wait for the thread; for as long as its programs need, once somebody is impatient.

        Interrupts are deferred by now: one that is raised in `join` has the thread count as ended
        while it runs, up to Python 3.12 (`Thread._wait_for_tstate_lock`).
        """
        from pytest_kindinfra.system.timeline import Deadline, wait_until

        def over() -> bool:
            return not thread.is_alive() or self._interrupts.hurried

        wait_until(over, Deadline.after(_JOIN), every=_LOOK_EVERY)
        if self._interrupts.hurried:
            thread.join(_HURRIED_JOIN)

    def _give_up(self, started: Started) -> None:
        self._given_up = True
        name, delete = started.prepared.request.cluster, started.tools.provider.delete_command
        self._write(
            f"kindinfra: interrupted five times: the teardown of cluster {name} was left\n"
            f"To fix: {' '.join(delete(name))}, or kindinfra gc"
        )

    def _end_at_exit(self, process_id: int) -> None:
        """End it as the process does, if an interrupt kept pytest from all of its hooks."""
        if os.getpid() == process_id:
            self.finish(failed=False, interrupted=True)

    # -- the terminal ------------------------------------------------------------------------

    def header(self) -> str | None:
        """Return the line for the report header, None where nothing is declared."""
        return f"kindinfra: {self._about}" if self._about else None

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Show the closing table, the failures in full, and what was kept."""
        if self._started is None or self._outcome is None or self._is_forked():
            return
        from pytest_kindinfra.run.table import quieter
        from pytest_kindinfra.run.teardown import closing_lines

        width = shutil.get_terminal_size((100, 24)).columns
        lines = closing_lines(
            self._started, self.run, self._outcome, width=width, color=reporter.hasmarkup
        )
        failed = self._outcome.state == "failed"
        lines = quieter(lines, verbosity=self._config.option.verbose, failed=failed)
        if lines:
            reporter.section("kindinfra")
        for line in lines:
            reporter.write_line(line)

    def _write_notes(self, prepared: Prepared) -> None:
        for note in prepared.notes:
            self._write(f"kindinfra: note: {note}")

    def _write(self, line: str) -> None:
        from pytest_kindinfra.session.output import write_line

        write_line(self._config, line)

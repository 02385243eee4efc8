"""pytest's main process, or xdist's controller: what it does about the run's stack.

It has the provisioner bring the stack up while tests already run, and end it once. Whatever
happens to the provisioner, waiters in all processes learn of it: by a result, or by a lock that is
released. Then the cluster is deleted here.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from pytest_kindinfra.run.live import LiveBoard
    from pytest_kindinfra.run.messages import Done, Finish
    from pytest_kindinfra.run.prepare import Prepared
    from pytest_kindinfra.session.options import Outline
    from pytest_kindinfra.session.output import Terminal
    from pytest_kindinfra.session.provisioner import Provisioner
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.state.locks import Lock, SharedLock
    from pytest_kindinfra.state.records import Needs
    from pytest_kindinfra.system.interrupts import Interrupts


_GIVES_UP = 3
"""The interrupt that leaves the end of the run to the provisioner."""


_LOOK_EVERY = 0.05


_ENDS_WITHIN = 5.0
"""Seconds for the provisioner to end once it has said that all is done."""


def new_controller(config: pytest.Config, first: Outline) -> Controller:
    """Return the controller of a new run; nothing is made on disk yet."""
    from pytest_kindinfra.state.runnames import new_run_id

    return Controller(config, new_run_id(), first=first)


class Controller:
    """Starts at most one bring-up, and ends it once."""

    def __init__(self, config: pytest.Config, run_id: str, *, first: Outline) -> None:
        self.meanwhile: Callable[[], None] = lambda: None
        self._first = first
        self._config = config
        self._run_id = run_id
        self._process = os.getpid()
        self._executable, self._environment = sys.executable, dict(os.environ)
        self._refused = False
        self._prepared: Prepared | None = None
        self._provisioner: Provisioner | None = None
        self._lock: SharedLock | None = None
        self._reused_lock: Lock | None = None
        self._ending: Finish | None = None
        self._done: Done | None = None
        self._caught = False
        self._given_up = False
        self._board: LiveBoard | None = None

    @property
    def path(self) -> Path:
        """Where the run directory is, or would be."""
        return self._config.rootpath / self._first.settings.artifacts / self._run_id

    @cached_property
    def run(self) -> RunDirectory:
        """The run directory, which is made when something is brought up."""
        from pytest_kindinfra.state.directory import RunDirectory

        return RunDirectory(self.path)

    @cached_property
    def _interrupts(self) -> Interrupts:
        from pytest_kindinfra.system.interrupts import Interrupts

        return Interrupts(gives_up=_GIVES_UP, hurrying=self._hurry)

    def note_surroundings(self) -> None:
        """Take note of what the provisioner is to be started with; tests change both."""
        self._executable, self._environment = sys.executable or "python3", dict(os.environ)

    # -- beginning ---------------------------------------------------------------------------

    def start(self, wanted: Needs) -> None:
        """Bring up what the request wants; a second request of the same run changes nothing.

        Args:
            wanted: What the selected tests need; None for nothing.

        Raises:
            pytest.UsageError: The declaration, a mark or an option cannot work; all problems.
        """
        if self._prepared:
            return
        self._caught = True
        self._interrupts.catch(sigint=self._has_workers())
        try:
            self._start(wanted)
        except RuntimeError as error:
            # Up to Python 3.11 what is raised in the making of a class comes out so, and a module
            # makes classes: https://github.com/python/cpython/issues/77757
            if isinstance(error.__cause__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise

    def _start(self, wanted: Needs) -> None:
        terminal, provisioner = self._start_provisioner()
        try:
            prepared = self._prepare(wanted)
            locks = self._make_run_directory(prepared)
            self._begin(provisioner, prepared, locks, terminal, tests=wanted.tests)
        except BaseException:
            if self._prepared is None:  # nothing was started, and nothing will be ended
                self._close_board()
                self._let_go(provisioner)
            raise

    def _start_provisioner(self) -> tuple[Terminal, Provisioner]:
        """Start the process before all else, since what it loads takes about a second."""
        from pytest_kindinfra.session.output import Terminal
        from pytest_kindinfra.session.provisioner import Provisioner, Surroundings

        terminal = Terminal(self._config)
        where = Surroundings(self._executable, self._environment, self._config.rootpath)
        try:
            return terminal, Provisioner(where, say=terminal.say)
        except OSError as error:
            msg = f"kindinfra: {where.executable!r} cannot be started: {error.strerror}"
            raise pytest.UsageError(msg) from None

    def _prepare(self, wanted: Needs) -> Prepared:
        from pytest_kindinfra.session.planning import prepare_run

        try:
            return prepare_run(self._config, wanted, self._run_id)
        except DeclarationError as error:
            self._refused = True
            raise pytest.UsageError(str(error)) from None

    def show_plan(self, wanted: Needs | None) -> None:
        """Print what a run of the selected tests would do.

        Args:
            wanted: What the selected tests need; None for nothing.

        Raises:
            pytest.UsageError: The declaration, a mark or an option cannot work; all problems.
        """
        if wanted is None:
            self._write("kindinfra: no selected test needs a cluster: none would be created")
            return
        from pytest_kindinfra.session.planning import shown_plan

        for line in shown_plan(self._prepare(wanted)):
            self._write(line)

    def _has_workers(self) -> bool:
        """Whether the tests run in other processes than this one."""
        return self._config.pluginmanager.hasplugin("dsession")

    def _make_run_directory(self, prepared: Prepared) -> tuple[SharedLock, SharedLock]:
        """Make it, and return its locks: `lock` and `provisioning`."""
        from pytest_kindinfra.state.locks import hold_shared
        from pytest_kindinfra.state.records import PlanMade

        try:
            self.run.make()
            self.run.reserve()
            self._lock = lock = hold_shared(self.run.lock)
            provisioning = hold_shared(self.run.provisioning)
            self.run.settle(PlanMade.of(prepared.plan, engine=prepared.settings.engine))
        except OSError as error:
            self._refused = True
            msg = (
                f"kindinfra: the run directory {self.run.path} cannot be written: "
                f"{error.strerror or error}\n"
                "To fix: make it writable, or --kindinfra-artifacts=DIR"
            )
            raise pytest.UsageError(msg) from None
        return lock, provisioning

    def _let_go(self, provisioner: Provisioner) -> None:
        """End the process, and release what the run holds."""
        provisioner.let_go()
        for lock in (self._lock, self._reused_lock):
            if lock:
                lock.release()

    def _begin(
        self,
        provisioner: Provisioner,
        prepared: Prepared,
        locks: tuple[SharedLock, SharedLock],
        terminal: Terminal,
        *,
        tests: int,
    ) -> None:
        from pytest_kindinfra.run.report import plan_line
        from pytest_kindinfra.session.reports import Reports
        from pytest_kindinfra.system.timeline import now

        plan, engine = prepared.plan, prepared.settings.engine
        cluster = prepared.request.cluster
        self._write(plan_line(plan, tests=tests, cluster=cluster, engine=engine))
        for note in prepared.notes:
            self._write(f"kindinfra: note: {note}")
        began = now()
        self._board = self._open_board(prepared, began)
        provisioner.show = self._board.take if self._board else None
        self.meanwhile = terminal.let_out
        self._prepared, self._provisioner = prepared, provisioner
        atexit.register(self._end_at_exit, os.getpid())
        self._config.pluginmanager.register(Reports(self._config, self.run), "kindinfra-reports")
        provisioner.begin(
            prepared,
            self.run,
            config=self._config,
            locks=locks,
            since=began,
            lost=lambda: self._lose(provisioner),
        )

    def _open_board(self, prepared: Prepared, since: float) -> LiveBoard | None:
        from pytest_kindinfra.session.board import open_board

        return open_board(self._config, prepared, since=since)

    def _close_board(self) -> None:
        if self._board:
            self._board.close()

    def _lose(self, provisioner: Provisioner) -> None:
        """Let waiters know that the provisioner is gone; called from a thread while tests run."""
        self._close_board()
        self._reused_lock = provisioner.report_early_end()

    # -- end ---------------------------------------------------------------------------------

    def end_cut_short(self) -> bool:
        """End the run after an interrupt that came out of pytest; return whether there is one."""
        if self._prepared is None:
            return False
        self.finish(failed=False, interrupted=True)
        sys.stderr.write("kindinfra: interrupted again: pytest's own end was cut short\n")
        return True

    def give_signals_back(self) -> None:
        """Leave the handlers of signals as they were before the run."""
        if self._caught:
            self._interrupts.restore()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        """Let no further interrupt fall into what pytest does between this one and its end."""
        if self._prepared:
            self._interrupts.raised()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Let nothing wait any more, before xdist waits for workers that wait for services.

        A second interrupt may come while xdist does, or fixtures end: it hurries our end, and no
        more.
        """
        self.end_waits()
        if self._caught:
            self._interrupts.allow()
        try:
            return (yield)
        except KeyboardInterrupt:
            if self._prepared is None:
                raise
            self.finish(failed=bool(session.testsfailed), interrupted=True)
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            return None

    def end_waits(self) -> None:
        """Have waiters give up, here and in workers, as far as anything was started."""
        if self._prepared and not self._is_forked():
            self._close()

    def _is_forked(self) -> bool:
        """Whether a test forked this process off and let it come back: it ends nothing."""
        return os.getpid() != self._process

    def _close(self) -> None:
        from pytest_kindinfra.run.messages import Cancel

        if self._provisioner:
            self._provisioner.tell(Cancel())
        with suppress(OSError):  # a full disk must not keep us from deleting the cluster
            self.run.close()

    def _hurry(self) -> None:
        """Pass on that the end was interrupted; called in a handler of signals."""
        if self._provisioner and not self._is_forked():
            from pytest_kindinfra.run.messages import Hurry

            self._provisioner.tell(Hurry())

    def finish(self, *, failed: bool, interrupted: bool) -> bool:
        """End the run: evidence is kept, the cluster is deleted, the report written.

        A second call does nothing, unless the first was cut short. An interrupt cuts the evidence
        short and no more; the third of a run leaves the rest to the provisioner. In a process that
        a test forked off nothing happens: the run goes on in its parent.

        Args:
            failed: A test failed.
            interrupted: The run was ended before its end.

        Returns:
            Whether an interrupt cut the evidence short.
        """
        if self._is_forked():
            return False
        if self._refused:
            shutil.rmtree(self.run.path, ignore_errors=True)  # workers' requests, and no more
        prepared, provisioner = self._prepared, self._provisioner
        if not (prepared and provisioner) or self._done or self._given_up:
            return False
        self._ending = self._ending or self._message(failed=failed, interrupted=interrupted)
        try:
            with self._interrupts.deferred():
                self._finish(provisioner, prepared, self._ending)
        except KeyboardInterrupt:
            self._close_board()
            self._give_up(provisioner, prepared)
        finally:
            self._close_board()
        return self._interrupts.hurried

    def _message(self, *, failed: bool, interrupted: bool) -> Finish:
        """Return what ends the run, with the look of the terminal for the closing table."""
        from pytest_kindinfra.run.messages import Finish

        width = shutil.get_terminal_size((100, 24)).columns
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        color = bool(reporter and reporter.hasmarkup)
        return Finish(failed=failed, interrupted=interrupted, width=width, color=color)

    def _finish(self, provisioner: Provisioner, prepared: Prepared, ending: Finish) -> None:
        self._close()
        if self._board:
            self._board.end()
        provisioner.tell(ending)
        while not provisioner.over(_LOOK_EVERY) and provisioner.done is None:
            self.meanwhile()
        if provisioner.done:
            provisioner.over(_ENDS_WITHIN)  # so that no process of the run is left
            self._done = provisioner.done
        else:
            self._done = self._finish_alone(provisioner, prepared, ending)
        self.meanwhile()
        self._let_go(provisioner)
        atexit.unregister(self._end_at_exit)

    def _finish_alone(self, provisioner: Provisioner, prepared: Prepared, ending: Finish) -> Done:
        """Do what the provisioner would have done, and return what it would have said at last."""
        from pytest_kindinfra.context import OwnCluster
        from pytest_kindinfra.run.messages import Done
        from pytest_kindinfra.run.teardown import Started, closing_lines, end
        from pytest_kindinfra.state.clusterrecords import ClusterNamed
        from pytest_kindinfra.system.files import is_there
        from pytest_kindinfra.wiring import make_tools, tools_for

        begun = provisioner.begun or is_there(self.run.file(ClusterNamed))
        own = OwnCluster(begun=begun, reused_dir=provisioner.reused_dir)
        made = replace(make_tools(prepared.settings.engine), own=own)
        tools = tools_for(prepared.request, self.run.kubeconfig, made)
        for phase in provisioner.phases:
            tools.timeline.add(phase)
        started = Started(prepared=prepared, tools=tools)
        outcome = end(
            started,
            self.run,
            hook=self._config.hook,
            write=self._write,
            failed=ending.failed,
            interrupted=ending.interrupted,
            interrupts=self._interrupts,
        )
        self.run.release_reserve()
        lines = closing_lines(started, self.run, outcome, width=ending.width, color=ending.color)
        return Done(lines=lines, failed=outcome.state == "failed")

    def _give_up(self, provisioner: Provisioner, prepared: Prepared) -> None:
        from pytest_kindinfra.run.messages import LOG

        self._given_up = True
        name = prepared.request.cluster
        if not provisioner.lost:
            self._write(
                f"kindinfra: interrupted again: the provisioner ends run {self.run.path.name} and "
                f"its cluster {name} without pytest; its log: {self.run.path / LOG}"
            )
            return
        self._write(
            f"kindinfra: interrupted three times: the teardown of cluster {name} was not finished\n"
            f"To fix: kindinfra gc"
        )

    def _end_at_exit(self, process_id: int) -> None:
        """End it as the process does, if an interrupt kept pytest from all of its hooks."""
        if os.getpid() == process_id:
            self.finish(failed=False, interrupted=True)

    # -- the terminal ------------------------------------------------------------------------

    def header(self) -> str | None:
        """Return the line for the report header, None where nothing is declared."""
        return self._first.header(self._config.rootpath, self._run_id)

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Show the closing table, the failures in full, and what was kept."""
        if self._done is None or self._is_forked():
            return
        from pytest_kindinfra.run.table import quieter

        verbosity = self._config.option.verbose
        lines = quieter(self._done.lines, verbosity=verbosity, failed=self._done.failed)
        if lines:
            reporter.section("kindinfra")
        for line in lines:
            reporter.write_line(line)

    def _write(self, line: str) -> None:
        from pytest_kindinfra.session.output import write_line

        write_line(self._config, line)

"""One run in the process that provisions: its bring-up in threads, then its end.

It is controlled by calls, and reports by its hooks; it must not know its caller.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.context import new_context
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.run.recipe import bring_up
from pytest_kindinfra.run.teardown import EVIDENCE_SECONDS, end, settle_rest
from pytest_kindinfra.system.timeline import Deadline, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.context import Hooks
    from pytest_kindinfra.run.report import Outcome
    from pytest_kindinfra.run.teardown import Started
    from pytest_kindinfra.state.directory import RunDirectory
    from pytest_kindinfra.system.interrupts import Haste

_NO_RESULT = "the bring-up ended without a result for it"

JOIN_SECONDS = 30.0
"""For what is under way when a run ends, such as programs that are asked to end."""

_HURRIED_JOIN = 11.0
"""A little longer than a program gets to end when it is asked to, and then when it is killed."""

_LOOK_EVERY = 0.05

_HEARTBEAT = 1.0


class _Later:
    """Work that goes on when the stack is up, in threads, until it is done or given up."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()

    def begin(self, work: Callable[[threading.Event], object]) -> None:
        """Begin it; it is called with an event that ends it."""
        thread = threading.Thread(target=work, args=(self._over,), name="kindinfra", daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def end(self) -> None:
        """Give up what still goes on, and return when its programs have ended."""
        self._over.set()
        for thread in self._threads:
            thread.join(_HURRIED_JOIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioning:
    """One bring-up, its watch over the cluster, and its end.

    Attributes:
        started: What to bring up, and who does the work.
        run: Gets the results.
        hooks: Called on the way.
        haste: Whether the end was interrupted.
        settled: Called once every result is settled, or cannot be.
        cancelled: Set when the run ends.
        cleanup: Gets what is to be closed or released after the run's end.
    """

    started: Started
    run: RunDirectory
    hooks: Hooks
    haste: Haste
    settled: Callable[[], object] = lambda: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    cleanup: ExitStack = field(default_factory=ExitStack)
    _later: _Later = field(default_factory=_Later, init=False)

    def begin(self) -> threading.Thread:
        """Bring the stack up in a thread, which also watches the cluster until the run ends."""
        thread = threading.Thread(target=self.run_to_its_end, name="kindinfra", daemon=True)
        thread.start()
        return thread

    def run_to_its_end(self, *, watching: bool = True) -> BaseException | None:
        """Bring the stack up and watch the cluster until the run is cancelled.

        Args:
            watching: False cancels it as soon as the stack is up.

        Returns:
            What went wrong with the bring-up itself, as no part of the stack's failure.
        """
        watchers: list[threading.Thread] = []
        try:
            error = self._bring_up(watchers, to_its_end=not watching)
            if not watching:
                self.cancel()
            settle_rest(
                self.started.prepared.plan,
                self.run,
                error=error or KindInfraError(_NO_RESULT),
                redactor=self.started.tools.redactor,
            )
        finally:
            self.settled()
        for watcher in watchers:  # no thread may outlive the run
            watcher.join()
        return error

    def _bring_up(
        self, watchers: list[threading.Thread], *, to_its_end: bool
    ) -> BaseException | None:
        try:
            context = new_context(
                self.started.prepared.plan,
                self.started.prepared.request,
                tools=self.started.tools,
                run=self.run,
                hooks=self.hooks,
                cancelled=self.cancelled,
                watchers=watchers,
                cleanup=self.cleanup,
                later=self._later.begin,
            )
            if context.request.group:
                from pytest_kindinfra.run.shards import bring_up_in_group

                bring_up_in_group(context)
            else:
                bring_up(context)
            if to_its_end:
                self._await_later()
        except BaseException as error:  # noqa: BLE001 - waiters in other processes must learn of it
            self._later.end()
            return error
        return None

    def cancel(self) -> None:
        """Give up what is still being brought up."""
        self.cancelled.set()

    def finish(
        self,
        thread: threading.Thread,
        *,
        failed: bool,
        interrupted: bool,
        hook: Any,
        write: Callable[[str], None],
        evidence: float = EVIDENCE_SECONDS,
        join: float = JOIN_SECONDS,
    ) -> Outcome:
        """End the run: evidence is kept, the cluster is deleted, the report written.

        Args:
            thread: What `begin` returned.
            failed: A test failed.
            interrupted: The run was ended before its end.
            hook: Calls `pytest_kindinfra_*` by keyword.
            write: Shows a line.
            evidence: Seconds for the evidence.
            join: Seconds for what is under way.
        """
        self.cancel()
        with suppress(OSError):  # a full disk must not keep us from deleting the cluster
            self.run.close()
        self._join(thread, join)
        if not interrupted:
            self._await_later()
        self._later.end()
        outcome = end(
            self.started,
            self.run,
            hook=hook,
            write=write,
            failed=failed,
            interrupted=interrupted,
            interrupts=self.haste,
            evidence=evidence,
        )
        self.run.release_reserve()
        self.cleanup.close()
        return outcome

    def _await_later(self) -> None:
        """Wait for the work that no test waits for, unless the end is interrupted."""

        def over() -> bool:
            return self._later.done or self.haste.hurried

        if not over():
            self.hooks.say("waiting until the build caches are exported")
        while not over():
            self.hooks.heartbeat(self.started.tools.timeline.running)
            wait_until(over, Deadline.after(_HEARTBEAT), every=_LOOK_EVERY)

    def _join(self, thread: threading.Thread, seconds: float) -> None:
        """Wait for the thread; for as long as its programs need, once the end is interrupted."""

        def over() -> bool:
            return not thread.is_alive() or self.haste.hurried

        wait_until(over, Deadline.after(seconds), every=_LOOK_EVERY)
        if self.haste.hurried:
            thread.join(_HURRIED_JOIN)

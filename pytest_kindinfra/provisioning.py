"""What the controller's thread does: bring the stack up, and leave a result for everything.

Whatever happens, waiters in other processes must learn of it: by a result, or by a lock that is
let go. It knows pytest's config for its hooks only.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError, StateError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from contextlib import ExitStack

    import pytest

    from pytest_kindinfra.coordination import Lock, RunDirectory
    from pytest_kindinfra.planning import Order
    from pytest_kindinfra.request import Hooks, Tools

_NO_RESULT = "the bring-up ended without a result for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioning:
    """One bring-up in a thread.

    Attributes:
        order: What to bring up, and how.
        tools: Who does the work.
        run: Gets the results.
        config: Whose hooks are called.
        cancelled: Set when the run ends.
        beat: Called each second with what goes on.
        say: Called with lines for the user.
        held: Gets what is to be let go of after the run's end.
    """

    order: Order
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
            self._settle_the_rest(error or KindInfraError(_NO_RESULT))
        finally:
            lock.release()
        for watcher in watchers:  # no thread may outlive the run
            watcher.join()

    def _bring_up(self, watchers: list[threading.Thread]) -> BaseException | None:
        """Return what went wrong with the bring-up itself, as no part of the stack's failure."""
        try:
            from pytest_kindinfra.stack import bring_up

            bring_up(
                self.order.plan,
                self.order.request,
                tools=self.tools,
                run=self.run,
                hooks=self._hooks(),
                cancelled=self.cancelled,
                watchers=watchers,
                held=self.held,
            )
        except BaseException as error:  # noqa: BLE001 - waiters in other processes must learn of it
            return error
        return None

    def _hooks(self) -> Hooks:
        from pytest_kindinfra.request import Hooks

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

    def _settle_the_rest(self, error: BaseException) -> None:
        from pytest_kindinfra.results import failure_record

        names = {one.name: f'service "{one.name}"' for one in self.order.plan.services}
        results = {f"service-{name}": subject for name, subject in names.items()}
        for name, subject in {"cluster": "the cluster", **results}.items():
            with suppress(OSError, StateError):  # settled, or the disk is full: the lock tells
                record = failure_record(error, subject=subject)
                self.run.settle(name, self.tools.redactor.record(record))

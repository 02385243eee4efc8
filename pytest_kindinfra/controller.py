"""The one process of a run that provisions: pytest's main process, xdist's controller.

A thread brings the stack up while tests already run; at the end everything is torn down once.
It knows pytest's config; the thread does not.
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.options import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from filelock import BaseFileLock

    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.planning import Order
    from pytest_kindinfra.request import Tools

_NO_RESULT = "the bring-up ended without a result for it"
_JOIN = 30.0
_DELETE = 120.0
_LOGS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A bring-up under way."""

    order: Order
    tools: Tools
    thread: threading.Thread
    lock: BaseFileLock


def new_controller(config: pytest.Config) -> Controller:
    """Return the controller of a new run; nothing is made on disk yet."""
    import secrets
    from datetime import datetime

    from pytest_kindinfra.coordination import RunDirectory

    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    run_id = f"{stamp}-{secrets.token_hex(3)}"
    return Controller(config, RunDirectory(early_artifacts(config) / run_id), run_id)


def early_artifacts(config: pytest.Config) -> Path:
    """Return the artifacts folder, which workers must know before anything is collected.

    The declaration may name it too; whether the rest of that file is right is not asked here,
    since a run that needs nothing must not fail by it.
    """
    from pytest_kindinfra.render import load_tables

    pairs: tuple[tuple[str, Any], ...] = ()
    with suppress(DeclarationError, TypeError, AttributeError):
        if loaded := load_tables(config.rootpath):
            pairs = tuple(loaded[0].get("options", {}).items())
    return config.rootpath / read_settings(config.getoption, pairs, source=None)[0].artifacts


class Controller:
    """Starts at most one bring-up, and ends it once."""

    def __init__(self, config: pytest.Config, run: RunDirectory, run_id: str) -> None:
        self.run = run
        self.meanwhile: Callable[[], None] = lambda: None
        self._config = config
        self._run_id = run_id
        self._started: Started | None = None
        self._outcome: dict[str, Any] = {}
        self._cancelled = threading.Event()

    # -- beginning ---------------------------------------------------------------------------

    def start(self, wanted: dict[str, Any]) -> None:
        """Bring up what the request wants; a second request of the same run changes nothing.

        Args:
            wanted: What `selection.request_of` returned.

        Raises:
            pytest.UsageError: The declaration, a mark or an option cannot work; all problems.
        """
        from pytest_kindinfra.planning import make_order

        if self._started:
            return
        try:
            order = make_order(self._config, wanted, self._run_id)
        except DeclarationError as error:
            raise pytest.UsageError(str(error)) from None
        if order.settings.plan:
            self._show(order)
        else:
            self._launch(order, tests=wanted["tests"])

    def _show(self, order: Order) -> None:
        from pytest_kindinfra.terminal import plan_lines

        for line in plan_lines(order.plan, {}):
            self._write(line)
        pytest.exit("kindinfra: that is the plan", returncode=0)

    def _launch(self, order: Order, *, tests: int) -> None:
        from pytest_kindinfra.coordination import hold
        from pytest_kindinfra.progress import ProgressLines
        from pytest_kindinfra.terminal import plan_line
        from pytest_kindinfra.timeline import now
        from pytest_kindinfra.wiring import make_tools

        self.run.make()
        lock, tools = hold(self.run.lock), make_tools()
        self.run.write("plan", {"services": [service.name for service in order.plan.services]})
        self._write(plan_line(order.plan, tests=tests, cluster=order.request.cluster))
        progress = ProgressLines(self._config, how=order.settings.progress, since=now())
        tools.timeline.subscribe(progress)
        self.meanwhile = progress.let_out
        thread = threading.Thread(target=self._provision, name="kindinfra", daemon=True)
        self._started = Started(order=order, tools=tools, thread=thread, lock=lock)
        thread.start()

    def _provision(self) -> None:
        """Bring the stack up; runs in its thread and leaves a result for every service."""
        from pytest_kindinfra.request import Hooks
        from pytest_kindinfra.results import failure_record
        from pytest_kindinfra.stack import bring_up

        if (started := self._started) is None:
            return
        plan, hook = started.order.plan, self._config.hook
        hooks = Hooks(
            before_build=lambda image: hook.pytest_kindinfra_before_build(
                config=self._config, image=image
            ),
            before_deploy=hook.pytest_kindinfra_before_deploy,
            after_deploy=hook.pytest_kindinfra_after_deploy,
        )
        error: BaseException = KindInfraError(_NO_RESULT)
        try:
            bring_up(
                plan,
                started.order.request,
                tools=started.tools,
                run=self.run,
                hooks=hooks,
                cancelled=self._cancelled,
            )
        except BaseException as caught:  # noqa: BLE001 - waiters in other processes must learn of it
            error = caught
        for name in ("cluster", *(f"service-{service.name}" for service in plan.services)):
            if self.run.read(name) is None:
                self.run.write(name, failure_record(error, subject=name))

    # -- end ---------------------------------------------------------------------------------

    def finish(self, *, failed: bool) -> None:
        """End the run: nothing new starts, evidence is kept, the cluster is deleted. Once."""
        if (started := self._started) is None or self._outcome:
            return
        self._outcome = {"state": "ending"}
        self.run.close()
        self._cancelled.set()
        started.thread.join(_JOIN)
        failed = failed or any(not one["cancelled"] for one in self._failures().values())
        keep = started.order.settings.keep
        kept = keep == "always" or (keep == "on-failure" and failed)
        try:
            if failed:
                self._keep_evidence(started)
            self._before_teardown()
            if not kept:
                self._delete(started)
        finally:
            self.meanwhile()
            self._report(started, failed=failed, kept=kept)
            started.lock.release()

    def _failures(self) -> dict[str, dict[str, Any]]:
        """Return the failed results: `cluster` or a service's name to its record."""
        results = self.run.read_all("service-")
        if cluster := self.run.read("cluster"):
            results = {"cluster": cluster, **results}
        return {name: result for name, result in results.items() if result["state"] == "failed"}

    def _keep_evidence(self, started: Started) -> None:
        from pytest_kindinfra.steps.diagnose import keep_evidence
        from pytest_kindinfra.timeline import Deadline
        from pytest_kindinfra.view import Stack

        try:
            keep_evidence(
                started.order.request.cluster,
                folder=self.run.path,
                provider=started.tools.provider,
                namespaces=[started.order.request.namespace],
                deadline=Deadline.after(_LOGS),
            )
            stack = Stack(self.run, waits=False)
            self._config.hook.pytest_kindinfra_diagnose(stack=stack, directory=self.run.path)
        except Exception as error:  # noqa: BLE001 - evidence is never fatal
            self._write(f"kindinfra: some evidence is missing: {error}")

    def _before_teardown(self) -> None:
        from pytest_kindinfra.view import Stack

        stack = Stack(self.run, waits=False)
        try:
            self._config.hook.pytest_kindinfra_before_teardown(stack=stack, directory=self.run.path)
        except Exception as error:  # noqa: BLE001 - the cluster must go all the same
            self._write(f"kindinfra: pytest_kindinfra_before_teardown failed: {error!r}")

    def _delete(self, started: Started) -> None:
        from pytest_kindinfra.stack import tear_down
        from pytest_kindinfra.timeline import Deadline

        with started.tools.timeline.span("delete", "cluster"):
            tear_down(
                started.order.request.cluster,
                tools=started.tools,
                kubeconfig=self.run.kubeconfig,
                deadline=Deadline.after(_DELETE),
            )

    def _report(self, started: Started, *, failed: bool, kept: bool) -> None:
        from pytest_kindinfra.coordination import write_json
        from pytest_kindinfra.report import run_report, trace

        self._outcome = {
            "state": "failed" if failed else "passed",
            "failures": {name: one["short"] for name, one in self._failures().items()},
            "kept": kept,
        }
        phases = started.tools.timeline.phases
        report = run_report(
            started.order.plan,
            cluster=started.order.request.cluster,
            phases=phases,
            images=self.run.read_all("image-"),
            services=self.run.read_all("service-"),
            outcome=self._outcome,
        )
        write_json(self.run.path / "run.json", report)
        write_json(self.run.path / "trace.json", trace(phases))

    # -- the terminal ------------------------------------------------------------------------

    def header(self) -> str:
        """Return the line for the report header."""
        folder = os.path.relpath(self.run.path, self._config.invocation_params.dir)
        return f"kindinfra: engine docker, artifacts in {folder}"

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Show the closing table, the failures in full, and what was kept."""
        from pytest_kindinfra.terminal import build_line, failure_lines, kept_lines, table_lines

        if (started := self._started) is None:
            return
        phases, images = started.tools.timeline.phases, self.run.read_all("image-")
        cached = [name for name, record in images.items() if record["cached"]]
        width = shutil.get_terminal_size((100, 24)).columns
        lines = table_lines(phases, cached=cached, width=width, color=reporter.hasmarkup)
        lines += ["", build_line(phases, cached=len(cached)), *failure_lines(self._failures())]
        if self._outcome.get("kept"):
            name = started.order.request.cluster
            delete = started.tools.provider.delete_command(name)
            lines += kept_lines(name, kubeconfig=self.run.kubeconfig, delete=delete)
        reporter.section("kindinfra")
        for line in lines:
            reporter.write_line(line)

    def _write(self, line: str) -> None:
        from pytest_kindinfra.progress import write_line

        write_line(self._config, line)

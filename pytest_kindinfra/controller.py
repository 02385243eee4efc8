"""The one process of a run that provisions: pytest's main process, xdist's controller.

It reads the declaration, makes the plan, has a thread bring the stack up while tests already
run, and tears down at the end. It knows pytest's config; the thread does not.
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
from pytest_kindinfra.model import Declaration, Phase
from pytest_kindinfra.options import read_settings

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock

    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.model import Plan
    from pytest_kindinfra.options import Settings
    from pytest_kindinfra.stack import Request, Tools

_JOIN = 30.0
_DELETE = 120.0
_LOGS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run that provisions."""

    plan: Plan
    request: Request
    tools: Tools
    settings: Settings
    thread: threading.Thread
    lock: BaseFileLock
    begin: float


def new_controller(config: pytest.Config) -> Controller:
    """Return the controller of a new run; nothing is made on disk yet."""
    import secrets
    from datetime import datetime

    from pytest_kindinfra.coordination import RunDirectory

    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    run_id = f"{stamp}-{secrets.token_hex(3)}"
    folder = config.rootpath / early_artifacts(config)
    return Controller(config, RunDirectory(folder / run_id), run_id)


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
    return read_settings(config.getoption, pairs, source=None)[0].artifacts


class Controller:
    """Starts at most one bring-up, and ends it once."""

    def __init__(self, config: pytest.Config, run: RunDirectory, run_id: str) -> None:
        self.run = run
        self.started: Started | None = None
        self.outcome: dict[str, Any] = {}
        self._config = config
        self._run_id = run_id
        self._cancelled = threading.Event()
        self._torn_down = False

    def header(self) -> str:
        """Return the line for the report header."""
        folder = os.path.relpath(self.run.path, self._config.invocation_params.dir)
        return f"kindinfra: engine docker, artifacts in {folder}"

    def _write(self, line: str) -> None:
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is not None:
            reporter.ensure_newline()
            reporter.write_line(line)

    # -- beginning ---------------------------------------------------------------------------

    def start(self, wanted: dict[str, Any]) -> None:
        """Bring up what the request wants; a second request of the same run changes nothing.

        Args:
            wanted: What `selection.request_of` returned.

        Raises:
            pytest.UsageError: The declaration, a mark or an option cannot work; all problems.
        """
        if self.started:
            return
        try:
            settings, plan = self._plan(wanted)
        except DeclarationError as error:
            raise pytest.UsageError(str(error)) from None
        if settings.plan:
            self._show_plan(plan)
            return
        self._launch(settings, plan, wanted)

    def _plan(self, wanted: dict[str, Any]) -> tuple[Settings, Plan]:
        """Read everything that was declared; all problems come in one error."""
        from pytest_kindinfra.plan import resolve
        from pytest_kindinfra.render import check_files, render

        declaration = self._declaration()
        settings, problems = read_settings(
            self._config.getoption, declaration.options, source=declaration.source
        )
        found = [*wanted["problems"], *problems, *check_files(declaration)]
        try:
            rendered = render(declaration.services, folder=declaration.folder)
            plan = resolve(declaration, wanted=wanted["services"], rendered=rendered)
        except DeclarationError as error:
            raise DeclarationError([*found, *error.problems]) from None
        if found:
            raise DeclarationError(found)
        return settings, plan

    def _declaration(self) -> Declaration:
        from pytest_kindinfra.declaration import parse_declaration
        from pytest_kindinfra.render import load_tables

        folder = self._config.rootpath
        if (loaded := load_tables(folder)) is None:
            return Declaration(folder=folder)
        tables, source = loaded
        return parse_declaration(tables, folder=folder, source=source)

    def _show_plan(self, plan: Plan) -> None:
        from pytest_kindinfra.terminal import plan_lines

        for line in plan_lines(plan, {}):
            self._write(line)
        pytest.exit("kindinfra: that is the plan", returncode=0)

    def _launch(self, settings: Settings, plan: Plan, wanted: dict[str, Any]) -> None:
        from pytest_kindinfra.coordination import hold
        from pytest_kindinfra.terminal import plan_line, progress_line
        from pytest_kindinfra.timeline import now
        from pytest_kindinfra.wiring import make_tools

        self.run.make()
        lock = hold(self.run.lock)
        request = self._request(settings, plan)
        tools, begin = make_tools(), now()
        self.run.write("plan", {"services": [service.name for service in plan.services]})
        self._write(plan_line(plan, tests=wanted["tests"], cluster=request.cluster))
        if settings.progress != "off":
            starts = settings.progress == "plain"

            def show(phase: Phase, ended: bool) -> None:  # noqa: FBT001 - Timeline calls it so
                if ended or starts:
                    self._write(progress_line(phase, ended=ended, since=begin))

            tools.timeline.subscribe(show)
        thread = threading.Thread(target=self._provision, name="kindinfra", daemon=True)
        self.started = Started(
            plan=plan,
            request=request,
            tools=tools,
            settings=settings,
            thread=thread,
            lock=lock,
            begin=begin,
        )
        thread.start()

    def _request(self, settings: Settings, plan: Plan) -> Request:
        from pytest_kindinfra.render import read_yaml
        from pytest_kindinfra.stack import Request

        declared = plan.declaration.cluster
        config = settings.kind_config or declared.config
        folder = plan.declaration.folder
        return Request(
            cluster=settings.cluster_name or f"kindinfra-{self._run_id}",
            run_id=self._run_id,
            namespace=declared.namespace,
            build_jobs=settings.build_jobs,
            timeout=settings.timeout,
            kind_config=read_yaml(folder / config) if config else None,
            node_image=settings.node_image or declared.node_image,
            tuning=declared.tuning,
            folder=folder,
        )

    def _provision(self) -> None:
        """Bring the stack up; runs in its thread and leaves a result for every service."""
        from pytest_kindinfra.stack import bring_up, failure_record

        started = self.started
        if started is None:
            return
        names = ["cluster", *(f"service-{service.name}" for service in started.plan.services)]
        error: BaseException = KindInfraError("the bring-up ended without a result for it")
        try:
            bring_up(
                started.plan,
                started.request,
                tools=started.tools,
                run=self.run,
                cancelled=self._cancelled,
            )
        except BaseException as caught:  # noqa: BLE001 - waiters in other processes must learn of it
            error = caught
        for name in names:
            if self.run.read(name) is None:
                self.run.write(name, failure_record(error, name.removeprefix("service-")))

    # -- end ---------------------------------------------------------------------------------

    def finish(self, *, failed: bool) -> None:
        """End the run: nothing new starts, evidence is kept, the cluster is deleted. Once."""
        if (started := self.started) is None or self._torn_down:
            return
        self._torn_down = True
        self.run.close()
        self._cancelled.set()
        started.thread.join(_JOIN)
        failures = self.failures()
        failed = failed or any(not result["cancelled"] for result in failures.values())
        keep = started.settings.keep
        kept = keep == "always" or (keep == "on-failure" and failed)
        try:
            if failed:
                self._keep_evidence(started)
            if not kept:
                self._delete(started)
        finally:
            self.outcome = {
                "state": "failed" if failed else "passed",
                "failures": {name: result["short"] for name, result in failures.items()},
                "kept": kept,
            }
            self._write_report(started)
            started.lock.release()

    def failures(self) -> dict[str, dict[str, Any]]:
        """Return the failed results: `cluster` or a service's name to its record."""
        results = self.run.read_all("service-")
        if cluster := self.run.read("cluster"):
            results = {"cluster": cluster, **results}
        return {name: result for name, result in results.items() if result["state"] == "failed"}

    def _keep_evidence(self, started: Started) -> None:
        from pytest_kindinfra.steps.diagnose import keep_evidence
        from pytest_kindinfra.timeline import Deadline

        try:
            keep_evidence(
                started.request.cluster,
                folder=self.run.path,
                provider=started.tools.provider,
                namespaces=[started.request.namespace],
                deadline=Deadline.after(_LOGS),
            )
        except (KindInfraError, OSError) as error:
            self._write(f"kindinfra: some evidence is missing: {error}")

    def _delete(self, started: Started) -> None:
        from pytest_kindinfra.stack import tear_down
        from pytest_kindinfra.timeline import Deadline

        with started.tools.timeline.span("delete", started.request.cluster):
            tear_down(
                started.request.cluster,
                tools=started.tools,
                kubeconfig=self.run.kubeconfig,
                deadline=Deadline.after(_DELETE),
            )

    def _write_report(self, started: Started) -> None:
        from pytest_kindinfra.coordination import write_json
        from pytest_kindinfra.report import run_report, trace

        phases = started.tools.timeline.phases
        images = self.run.read_all("image-")
        services = self.run.read_all("service-")
        report = run_report(
            started.plan,
            phases=phases,
            images=images,
            services=services,
            outcome=self.outcome,
            cluster=started.request.cluster,
        )
        write_json(self.run.path / "run.json", report)
        write_json(self.run.path / "trace.json", trace(phases))

    def summarise(self, reporter: Any) -> None:
        """Show the closing table, the failures in full, and what was kept."""
        from pytest_kindinfra.terminal import build_line, failure_lines, table_lines

        if (started := self.started) is None:
            return
        reporter.section("kindinfra")
        phases = started.tools.timeline.phases
        images = self.run.read_all("image-")
        cached = [name for name, record in images.items() if record["cached"]]
        lines = table_lines(
            phases, cached=cached, width=shutil.get_terminal_size((100, 24)).columns, color=reporter.hasmarkup
        )
        lines += ["", build_line(phases, cached=len(cached))]
        lines += failure_lines(self.failures())
        lines += self._kept_lines(started)
        for line in lines:
            reporter.write_line(line)

    def _kept_lines(self, started: Started) -> list[str]:
        if not self.outcome.get("kept"):
            return []
        delete = " ".join(started.tools.provider.delete_command(started.request.cluster))
        return [
            f"kept: cluster {started.request.cluster}",
            f"  use it:    export KUBECONFIG={self.run.kubeconfig}",
            f"  delete it: {delete}",
        ]

"""What is written for people once a run is over: the timeline, and what a CI service shows.

It reads the run directory and notes when tests ran; it must not know how the run went on.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from pytest_kindinfra.run.ci import RootCause
    from pytest_kindinfra.state.directory import RunDirectory


_PHASES = frozenset({"setup", "call", "teardown"})
"""Of a test; a report with another one, such as xdist's of a crashed worker, has no times."""


_LONGEST_CAUSE = 4000
"""Letters of a test's failure in the timeline; the end of it says most."""


class Reports:
    """Notes each test, and writes the reports at the end; a plugin of the main process."""

    def __init__(self, config: pytest.Config, run: RunDirectory) -> None:
        self._config = config
        self._run = run
        self._tests: dict[tuple[str, str], dict[str, Any]] = {}
        self._causes: list[RootCause] = []
        self._written = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note when a test ran, where, and how it ended."""
        test = self._test_of(report) if report.when in _PHASES else self._crashed(report)
        if report.outcome != "passed":
            test["outcome"] = report.outcome
        if report.failed:
            self._note_failure(report, test)

    def _test_of(self, report: pytest.TestReport) -> dict[str, Any]:
        """Return what is noted of a test, with this report's times; each attempt begins again."""
        worker = getattr(report, "worker_id", "") or "main"
        begun = {
            "test": report.nodeid,
            "worker": worker,
            "start": report.start,
            "outcome": "passed",
        }
        if report.when == "setup":
            self._tests[worker, report.nodeid] = begun
        test = self._tests.setdefault((worker, report.nodeid), begun)
        test["end"] = report.stop
        test[f"{report.when}_end"] = report.stop
        return test

    def _crashed(self, report: pytest.TestReport) -> dict[str, Any]:
        """Return the test in which a worker crashed; xdist's report of that has no times."""
        from pytest_kindinfra.system.timeline import now

        for test in self._tests.values():
            if test["test"] == report.nodeid and "teardown_end" not in test:
                test["end"] = max(now(), test["end"])
                return test
        return {}  # it crashed in the set-up: when that began is not known

    def _note_failure(self, report: pytest.TestReport, test: dict[str, Any]) -> None:
        """Keep a failed test as a root cause, unless a service is its cause."""
        from pytest_kindinfra.run.ci import RootCause, SourceLine
        from pytest_kindinfra.state.results import STACK_FAILED

        text = report.longreprtext
        test["cause"] = text[-_LONGEST_CAUSE:]
        folder = self._attempt_folder(report)
        test["logs"] = self._names(folder.glob("*.*")) if folder else []
        if report.when == "setup" and STACK_FAILED.search(text):
            return
        crash = getattr(report.longrepr, "reprcrash", None)
        path, line = (crash.path, crash.lineno) if crash else (report.location[0], 0)
        said = crash.message if crash else text.strip().rpartition("\n")[2]
        root = self._config.rootpath
        with suppress(ValueError):
            path = str(Path(path).relative_to(root))
        place = SourceLine(str(path), line)
        evidence = "".join(self._names([folder] if folder else []))
        self._causes.append(RootCause(f"test {report.nodeid}", said, place, evidence))

    def _attempt_folder(self, report: pytest.TestReport) -> Path | None:
        """Return the folder of a failed attempt, None if nothing was kept of it."""
        folder = Path(str(dict(report.user_properties).get("kindinfra_evidence", self._run.path)))
        return None if folder == self._run.path else folder

    def _names(self, paths: Iterable[Path]) -> list[str]:
        """Return paths relative to the run directory, sorted."""
        return sorted(os.path.relpath(path, self._run.path) for path in paths)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Write the reports, once the run has ended and before the terminal's summary."""
        result = yield
        with suppress(OSError):
            self._write()
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the annotations, which GitHub reads from the log."""
        from pytest_kindinfra.run.ci import error_commands

        if self._written and os.environ.get("GITHUB_ACTIONS") == "true":
            for line in error_commands(self._all_causes()):
                terminalreporter.write_line(line)

    def _write(self) -> None:
        try:
            report = json.loads((self._run.path / "run.json").read_text("utf-8"))
        except (OSError, ValueError):
            return  # no service was brought up, or the report could not be written
        self._written = True
        from pytest_kindinfra.run.page import write_timeline

        write_timeline(self._run.path, report, list(self._tests.values()))
        self._summarise(report)

    def _summarise(self, report: Mapping[str, Any]) -> None:
        from pytest_kindinfra.run.ci import summary

        if file := os.environ.get("GITHUB_STEP_SUMMARY"):
            folder = os.path.relpath(self._run.path, os.environ.get("GITHUB_WORKSPACE") or ".")
            with Path(file).open("a", encoding="utf-8") as stream:
                stream.write(summary(report, self._all_causes(), folder=folder))

    def _all_causes(self) -> list[RootCause]:
        """Return the causes of services first, then those of tests, with places for GitHub."""
        causes = [*self._service_causes(), *self._causes]
        return [one._replace(place=_in_workspace(one.place, self._config)) for one in causes]

    def _service_causes(self) -> list[RootCause]:
        from pytest_kindinfra.errors import KindInfraError
        from pytest_kindinfra.run.ci import RootCause, SourceLine
        from pytest_kindinfra.run.places import place_of
        from pytest_kindinfra.run.prepare import read_declaration
        from pytest_kindinfra.run.teardown import read_failures

        failures = [one for one in read_failures(self._run).values() if not one.cancelled]
        causes = {one.root: one for one in failures}
        found = []
        for root, cause in causes.items():
            place = SourceLine()
            with suppress(KindInfraError):
                place = place_of(root, cause.full, read_declaration(self._config.rootpath))
            title = f"{root} {cause.verb}"
            found.append(RootCause(title, cause.full, place))
        return found


def _in_workspace(place: Any, config: pytest.Config) -> Any:
    """Return a place with its path relative to the checkout, as GitHub wants it."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if not (place.file and workspace):
        return place
    return place._replace(file=os.path.relpath(config.rootpath / place.file, workspace))


def note_properties(item: pytest.Item, run: RunDirectory, needs: Any, waited: float) -> None:
    """Give a test the properties that JUnit's XML shows of it; a later attempt replaces them.

    Args:
        item: The test.
        run: Where its evidence is.
        needs: The services that it names.
        waited: Seconds for which it waited for them.
    """
    from pytest_kindinfra.state.records import ImageReady

    images = run.read_all(ImageReady)
    properties = {
        "kindinfra_services": ",".join(sorted(needs)),
        "kindinfra_images": ",".join(ready.image.reference for ready in images.values()),
        "kindinfra_waited_s": f"{waited:.3f}",
        "kindinfra_evidence": str(run.path),
    }
    kept = [pair for pair in item.user_properties if pair[0] not in properties]
    item.user_properties[:] = [*kept, *properties.items()]

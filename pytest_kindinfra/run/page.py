"""`timeline.html`: everything that a run did on one axis of time, in one file without network."""

from __future__ import annotations

import glob
import json
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.model import SERVICE_LABEL
from pytest_kindinfra.run.report import count
from pytest_kindinfra.run.table import critical_path, recorded_needs, recorded_phases, total_line
from pytest_kindinfra.system.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import Phase


_PLACE = "/*DATA*/"


_FILES = (
    "run.json",
    "trace.json",
    "events.txt",
    "kind-create.log",
    "build",
    "pods",
    "attempts",
    "kind",
)


_CLUSTER = "cluster"


def write_timeline(
    folder: Path, report: Mapping[str, Any], tests: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Write `timeline.html` into a run directory, for its owner to read only; none on a full disk.

    Args:
        folder: The run directory.
        report: run.json's content.
        tests: Each with `test`, `worker`, `outcome`, `start`, `setup_end`, `end` (seconds since
            the epoch), and if it failed `cause` and `logs` (files, relative to `folder`).
    """
    with suppress(OSError):  # run.json says all that it shows
        write_private(folder / "timeline.html", timeline_page(report, tests, folder=folder))


def timeline_page(
    report: Mapping[str, Any], tests: Sequence[Mapping[str, Any]], *, folder: Path
) -> str:
    """Return the page; see `write_timeline`."""
    phases = recorded_phases(report)
    begin = min([one.start for one in phases] + [one["start"] for one in tests], default=0.0)
    rows = [*_phase_rows(report, phases, begin, folder), *_test_rows(tests, begin)]
    state = report["outcome"]["state"]
    data = {
        "title": f"{folder.name}: {state}",
        "failed": state == "failed",
        "about": _about(report, phases, tests),
        "files": [name for name in _FILES if (folder / name).exists()],
        "rows": rows,
    }
    template = files("pytest_kindinfra.run").joinpath("timeline.html").read_text("utf-8")
    # Text of others may hold `</script>`; in JSON a letter may be written by its number.
    return template.replace(_PLACE, json.dumps(data).replace("<", "\\u003c"))


def _about(
    report: Mapping[str, Any], phases: Sequence[Phase], tests: Sequence[Mapping[str, Any]]
) -> str:
    plan = report["plan"]
    parts = [count(len(plan["services"]), "service"), count(len(report["images"]), "image")]
    parts += [count(len({one["test"] for one in tests}), "test")] if tests else []
    return f"{', '.join(parts)}. {total_line(phases, recorded_needs(report))}"


def _phase_rows(
    report: Mapping[str, Any], phases: Sequence[Phase], begin: float, folder: Path
) -> Iterator[dict[str, Any]]:
    needs, images = recorded_needs(report), set(report["images"]) | set(report["plan"]["images"])
    critical = set(map(id, critical_path(phases, needs)))
    failures = report["outcome"]["failures"]
    subjects = dict.fromkeys(phase.subject for phase in phases)
    for subject in sorted(subjects, key=lambda one: (one != _CLUSTER, one not in images)):
        bars = [
            _bar(
                phase,
                begin,
                critical=id(phase) in critical,
                cause=_cause(phase, failures),
                logs=_logs(phase, folder),
            )
            for phase in phases
            if phase.subject == subject
        ]
        known = needs.get(subject, set()) - {subject}
        yield {
            "group": "cluster" if subject == _CLUSTER else "images and services",
            "name": subject,
            "needs": sorted(known),
            "bars": bars,
        }


def _bar(
    phase: Phase, begin: float, *, critical: bool, cause: str, logs: list[str]
) -> dict[str, Any]:
    return {
        "kind": phase.kind,
        "label": phase.kind,
        "title": phase.name,
        "start": phase.start - begin,
        "end": phase.end - begin,
        "failed": not phase.ok,
        "critical": critical,
        "cause": cause,
        "logs": logs,
    }


def _cause(phase: Phase, failures: Mapping[str, str]) -> str:
    if phase.ok:
        return ""
    return failures.get(phase.subject) or failures.get(f"image {phase.subject}") or ""


def _logs(phase: Phase, folder: Path) -> list[str]:
    """Return the files about a phase, relative to the run directory."""
    if phase.kind == "build":
        found: Iterable[Path] = [folder / "build" / f"{phase.subject}.log"]
    elif phase.subject == _CLUSTER:
        found = [folder / "kind-create.log"]
    elif phase.kind in {"deploy", "wait"}:
        found = _pod_logs(folder / "pods", phase.subject)
    else:
        found = []
    return [str(path.relative_to(folder)) for path in found if path.exists()]


def _pod_logs(folder: Path, service: str) -> list[Path]:
    """Return the logs of a service's pods, which are known by the label in their records."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            pod = json.loads(path.read_text("utf-8"))
            if pod["metadata"]["labels"][SERVICE_LABEL] == service:
                found += sorted(folder.glob(f"{glob.escape(path.stem)}.*.log"))
    return found


def _test_rows(tests: Sequence[Mapping[str, Any]], begin: float) -> Iterator[dict[str, Any]]:
    for worker in dict.fromkeys(sorted(one["worker"] for one in tests)):
        own = [one for one in tests if one["worker"] == worker]
        bars = [bar for test in own for bar in _test_bars(test, begin)]
        yield {"group": "tests", "name": worker, "needs": [], "bars": bars}


def _test_bars(test: Mapping[str, Any], begin: float) -> Iterator[dict[str, Any]]:
    """Yield the set-up of a test, which holds its wait for services, then the rest of it."""
    setup_end = test.get("setup_end", test["start"])
    common = {
        "kind": "test",
        "label": test["test"].rpartition("::")[2],
        "title": test["test"],
        "cause": test.get("cause", ""),
        "logs": test.get("logs", []),
        "failed": test["outcome"] == "failed",
    }
    spans = ((test["start"], setup_end, True), (setup_end, test["end"], False))
    for start, end, setup in spans:
        if end > start:
            yield {**common, "start": start - begin, "end": end - begin, "setup": setup}

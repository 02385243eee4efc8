"""What a run leaves for machines to read: run.json and a trace. Pure: records in, mappings out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.model import url_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindinfra.model import Phase, Plan

_MICROSECONDS = 1_000_000


def run_report(
    plan: Plan,
    *,
    cluster: str,
    phases: Sequence[Phase],
    images: Mapping[str, Mapping[str, Any]],
    services: Mapping[str, Mapping[str, Any]],
    outcome: Mapping[str, Any],
    memory: Mapping[str, Any] | None = None,
    git: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return run.json's content.

    Returns:
        `plan`: the services in the order of their needs, each with `needs` and `images`;
        `phases`: `name`, `kind`, `subject`, `start`, `end` (seconds since the epoch), `ok`, and for
        a load `bytes`: what its stream took to all kind nodes together;
        `images`: name to `reference`, `cached`, `bases` (ids of base images) and `also` (further
        references); `endpoints`: service to endpoint to URL; `outcome`: `state`, `failures`,
        `kept`; `memory`: the `folder` in which is kept what saves time in later runs, and the
        `problems` with it; `git`: `commit` and `dirty` (None if git did not say), or None.
    """
    return {
        "plan": {
            "cluster": cluster,
            "images": [image.name for image in plan.images],
            "services": [
                {
                    "name": service.name,
                    "needs": {need.name: need.level for need in service.needs},
                    "images": list(service.images),
                }
                for service in plan.services
            ],
        },
        "phases": [_phase(phase) for phase in phases],
        "images": {name: dict(record) for name, record in images.items()},
        "endpoints": {
            name: {one["name"]: _url(one) for one in record.get("endpoints", ())}
            for name, record in services.items()
        },
        "outcome": dict(outcome),
        "memory": None if memory is None else dict(memory),
        "git": None if git is None else dict(git),
    }


def trace(phases: Sequence[Phase]) -> dict[str, Any]:
    """Return the phases in Chrome's trace format, one row for each subject.

    The format is Google's "Trace Event Format"; chrome://tracing and Perfetto show it.
    """
    rows = {subject: row for row, subject in enumerate(dict.fromkeys(p.subject for p in phases))}
    events = [
        {
            "name": phase.name,
            "cat": phase.kind,
            "ph": "X",
            "ts": phase.start * _MICROSECONDS,
            "dur": (phase.end - phase.start) * _MICROSECONDS,
            "pid": 1,
            "tid": rows[phase.subject],
        }
        for phase in phases
    ]
    names = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": subject}}
        for subject, row in rows.items()
    ]
    return {"traceEvents": [*names, *events]}


def _phase(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "kind": phase.kind,
        "subject": phase.subject,
        "start": phase.start,
        "end": phase.end,
        "ok": phase.ok,
        **({} if phase.sent is None else {"bytes": phase.sent}),
    }


def _url(endpoint: Mapping[str, Any]) -> str:
    return url_of(endpoint["scheme"], endpoint["host"], endpoint["port"])

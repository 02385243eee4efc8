"""What a run shows at its end and writes down: lines, tables, `run.json`, `trace.json`. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.names import (
    declared_name,
    worker_of,
)
from pytest_kindinfra.plan.sources import describe_sources
from pytest_kindinfra.references import stand_in
from pytest_kindinfra.state.codec import to_json
from pytest_kindinfra.system.timeline import phase_kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.context import Request
    from pytest_kindinfra.images.tags import Known
    from pytest_kindinfra.model import BuiltImage, Endpoint, Phase, Plan, Service
    from pytest_kindinfra.state.records import CacheUsed, GitState
    from pytest_kindinfra.state.results import Failed
    from pytest_kindinfra.system.timeline import Running


_MICROSECONDS = 1_000_000


_MEGABYTE = 1_000_000


_MUCH_LOADED = 100 * _MEGABYTE
"""Bytes that take some seconds to load; changed layers of an edited service are fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: passed, skipped, failed or interrupted.
        kept: The cluster is still there.
        failures: `cluster` or a service's name to its failed result.
    """

    state: str
    kept: bool
    failures: Mapping[str, Failed]


def run_report(
    plan: Plan,
    *,
    cluster: str,
    phases: Sequence[Phase],
    images: Mapping[str, BuiltImage],
    endpoints: Mapping[str, Sequence[Endpoint]],
    outcome: Outcome,
    cache: CacheUsed | None = None,
    git: GitState | None = None,
    versions: Mapping[str, Any] | None = None,
    machine: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return run.json's content.

    Args:
        plan: What was to be brought up.
        cluster: The cluster's name.
        phases: All phases, by start.
        images: Declared name to the image.
        endpoints: Service to its endpoints; none for a service that failed.
        outcome: How the run ended.
        cache: The cache folder, None if there is none.
        git: What git said of the project, None if there is no commit.
        versions: Of programs; see `run.surroundings`.
        machine: On which the run was; see `run.surroundings`.

    Returns:
        `plan`: the services in the order of their needs, each with `needs` and `images`, and
        `image_needs`: image to the images that it is built on;
        `phases`: `name`, `kind`, `subject`, `start`, `end` (seconds since the epoch), `ok`, and for
        a load `bytes`: what its stream took to all kind nodes together;
        `images`: name to `reference`, `cached`, `bases` (ids of base images) and `also` (further
        references); `endpoints`: service to endpoint to URL; `outcome`: `state`, `failures`,
        `kept`; `memory`: the `folder` in which is kept what saves time in later runs, and the
        `problems` with it; `git`: `commit` and `dirty` (None if git did not say), or None;
        `versions` and `machine` as `run.surroundings` has them.
    """
    return {
        "plan": {
            "cluster": cluster,
            "images": [image.name for image in plan.images],
            "image_needs": {image.name: list(image.needs) for image in plan.images},
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
        "images": {name: to_json(image) for name, image in images.items()},
        "endpoints": {
            name: {one.name: one.url for one in proved} for name, proved in endpoints.items()
        },
        "outcome": _outcome(outcome),
        "memory": cache and to_json(cache),
        "git": git and to_json(git),
        "versions": dict(versions or {}),
        "machine": dict(machine or {}),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    failures = outcome.failures.items()
    return {
        "state": outcome.state,
        "failures": {name: one.short for name, one in failures if not one.cancelled},
        "kept": outcome.kept,
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


OF_SERVICES = frozenset({"deploy", "wait", "run"})
"""Kinds of phases whose subject is a service, or a worker's copy of one."""


_SAID = 100


def progress_line(phase: Phase, *, ended: bool, since: float) -> str:
    """Return the line for the start or the end of a phase; `since` is when the run began."""
    kind = phase_kind(phase.kind)
    at = f"kindinfra {(phase.end if ended else phase.start) - since:6.1f} s  [{phase.subject}]"
    if not ended:
        return f"{at} {kind.doing}"
    ending = kind.done if phase.ok else phase.note or f"FAILED {kind.doing}"
    return f"{at} {ending} in {phase.end - phase.start:.1f} s"


def running_line(running: Iterable[Running], *, at: float, since: float) -> str:
    """Return the line that says what goes on; copies of a service are named together."""
    groups: dict[tuple[str, ...], list[Running]] = {}
    for number, one in enumerate(running):
        copied = one.kind in OF_SERVICES and worker_of(one.subject)
        same = (one.kind, declared_name(one.subject), _trouble(one)) if copied else (str(number),)
        groups.setdefault(same, []).append(one)
    parts = [
        f"[{_named(group)}] {phase_kind(group[0].kind).doing} "
        f"({at - min(one.start for one in group):.0f} s{_trouble(group[0])})"
        for group in groups.values()
    ]
    return f"kindinfra {at - since:6.1f} s  still {', '.join(parts)}"


def _named(group: Sequence[Running]) -> str:
    subject = group[0].subject
    return f"{declared_name(subject)}, {len(group)} copies" if len(group) > 1 else subject


def _trouble(one: Running) -> str:
    """Return what keeps a service from being ready; a build's last line is shown elsewhere."""
    said = _shown(one.says()) if phase_kind(one.kind).shows_trouble else ""
    return f"; {said}" if said else ""


def heartbeat_line(running: Running, *, at: float, since: float) -> str:
    """Return the line that says what something that takes long printed last."""
    doing = phase_kind(running.kind).doing
    said = _shown(running.says())
    ending = f": {said}" if said else ""
    return (
        f"kindinfra {at - since:6.1f} s  [{running.subject}] still {doing} "
        f"({at - running.start:.0f} s){ending}"
    )


def _shown(said: str) -> str:
    said = "".join(letter for letter in said if letter.isprintable()).strip()
    return f"{said[:_SAID]}..." if len(said) > _SAID else said


def plan_line(plan: Plan, *, tests: int, cluster: str, engine: str) -> str:
    """Return the line that says what a run is going to bring up."""
    services, images = len(plan.services), len(plan.images)
    return (
        f"kindinfra: {count(tests, 'test')} {'needs' if tests == 1 else 'need'} "
        f"{count(services, 'service')} from {count(images, 'image')}, cluster {cluster} on {engine}"
    )


def plan_lines(
    plan: Plan, request: Request, known: Known, *, kubeconfig: Path | None = None
) -> list[str]:
    """Return what `--kindinfra-plan` and `kindinfra plan` show.

    Args:
        plan: What would be done.
        request: How, and in which cluster.
        known: The images' references, and which of them the engine has.
        kubeconfig: That of the existing cluster to use; None if a cluster would be created.
    """
    parts = {
        "cluster": _cluster_rows(request, known, kubeconfig),
        "images": _image_rows(plan, known),
        "external images": _external_rows(plan, known),
        "services, in the order of their needs": _service_rows(plan),
        "replaced in manifests": _replaced_rows(plan),
        "endpoints": _endpoint_rows(plan),
    }
    lines: list[str] = []
    for title, rows in parts.items():
        if rows:
            lines += ["", f"{title}:", *(f"  {row}" for row in rows)]
    return lines


def _cluster_rows(request: Request, known: Known, kubeconfig: Path | None) -> list[str]:
    engine = f"{known.engine}{', which does not answer' if known.there is None else ''}"
    if kubeconfig:
        return [_row("existing", f"the current context of {kubeconfig}"), _row("engine", engine)]
    new = "" if request.named else " (a new name for each run)"
    return [
        _row("name", f"{request.cluster}{new}"),
        _row("node image", ", ".join(_node_images(request))),
        _row("engine", engine),
    ]


def _node_images(request: Request) -> list[str]:
    """Return the node images, each once, as the kind config and the options give them."""
    nodes = (request.kind_config or {}).get("nodes") or [{}]
    images = [node.get("image") or request.node_image or "kind's default" for node in nodes]
    return list(dict.fromkeys(images))


def _image_rows(plan: Plan, known: Known) -> list[str]:
    rows = []
    for image in plan.images:
        reference = known.tags.get(image.name, "pending")
        comes = "pulled by the kind node" if image.prebuilt else "to be built"
        comes = f"to be loaded from {image.archive}" if image.archive else comes
        rows.append(_row(image.name, f"{reference}{_presence(reference, known, comes)}"))
    return rows


def _external_rows(plan: Plan, known: Known) -> list[str]:
    """Return the images that services run and that are not declared."""
    references = dict.fromkeys(one for found in plan.external.values() for one in found)
    return [f"{one}{_presence(one, known, 'pulled by the kind node')}" for one in references]


def _presence(reference: str, known: Known, otherwise: str) -> str:
    if known.there is None or reference.startswith("pending"):
        return ""
    return f" ({'in the engine' if reference in known.there else otherwise})"


def _service_rows(plan: Plan) -> list[str]:
    rows = []
    for service in plan.services:
        needs = ", ".join(_need(need.name, need.level) for need in service.needs) or "-"
        early = ", before the nodes are Ready" if service.before == "nodes" else ""
        where = plan.namespaces.get(service.name)
        own = f", in namespace {where}" if where else _per_worker(service)
        sources = describe_sources(service, plan)
        rows.append(_row(service.name, f"needs {needs}{early}{own}{sources}"))
    return rows


def _per_worker(service: Service) -> str:
    return ", one copy for each xdist worker" if service.per else ""


def _endpoint_rows(plan: Plan) -> list[str]:
    names = {service.name for service in plan.services}
    mapped = [
        f"{port.service + '.' + port.endpoint:<32} "
        f"127.0.0.1:{port.host_port or 'a free port'} -> nodePort {port.node_port}"
        for port in plan.ports
        if port.service in names and port.endpoint
    ]
    others = [
        f"{service.name + '.' + spec.name:<32} by {spec.expose}"
        for service in plan.services
        for spec in service.endpoints
        if spec.expose not in {None, "node-port"}
    ]
    return [*mapped, *others]


def _row(name: str, text: str) -> str:
    return f"{name:<20} {text}"


def _replaced_rows(plan: Plan) -> list[str]:
    """Return which references as written mean declared images, for all services."""
    return [
        _row(service.name, f"{reference} -> image {image}")
        for service in plan.services
        for reference, image in plan.image_uses.get(service.name, {}).items()
        if reference != stand_in(image)  # a placeholder's
    ]


def failure_lines(failures: Mapping[str, Failed]) -> list[str]:
    """Return each cause in full once, with what was not started because of it.

    Args:
        failures: Name of a service, or `cluster`, to its failed result.
    """
    causes = {one.root: one for one in failures.values() if not one.cancelled}
    lines: list[str] = []
    for root, cause in causes.items():
        lines += ["", f"kindinfra: {root} {cause.verb}:", *cause.full.splitlines()]
        blocked = [
            name
            for name, one in failures.items()
            if one.root == root and root not in {f'service "{name}"', "the cluster"}
        ]
        if blocked:
            lines.append(f"not started because of it: {', '.join(blocked)}")
    return lines


def build_line(phases: Iterable[Phase], *, cached: int) -> str:
    """Return the line that sets the builds' sum against their wall time, empty without images.

    The sum is no promise of what is saved: in parallel to others a build takes longer than alone.
    """
    builds = [phase for phase in phases if phase.kind == "build"]
    if not builds:
        return f"builds: none, {count(cached, 'image')} unchanged" if cached else ""
    added_up = sum(phase.end - phase.start for phase in builds)
    wall = max(phase.end for phase in builds) - min(phase.start for phase in builds)
    unchanged = f", {count(cached, 'image')} unchanged" if cached else ""
    work = f"{added_up:.1f} s of build time in {wall:.1f} s"
    return f"builds: {work}{unchanged}"


def outdated_line(phases: Iterable[Phase]) -> str:
    """Return the line of a run that loaded much into a restored cluster, else an empty text.

    Args:
        phases: All of the run; images that went in one stream have the same start and size.
    """
    phases = tuple(phases)
    kinds = {one.kind for one in phases}
    streams = {(one.start, one.sent or 0) for one in phases if one.kind == "load"}
    loaded = sum(size for _, size in streams)
    if "restore" not in kinds or "create" in kinds or loaded < _MUCH_LOADED:
        return ""
    return (
        f"snapshot: {loaded / _MEGABYTE:.0f} MB of images were loaded that it does not have; "
        "kindinfra snapshot make makes one that has them"
    )


def kept_lines(what: str, *, kubeconfig: Path, delete: Sequence[str]) -> list[str]:
    """Return how to use and how to delete what was kept, such as a cluster."""
    return [
        "",
        f"kept: {what}",
        f"  use it:    export KUBECONFIG={shlex.quote(str(kubeconfig))}",
        f"  delete it: {shlex.join(delete)}",
    ]


def reused_lines(cluster: str, *, kubeconfig: Path, end: Sequence[str]) -> list[str]:
    """Return how to use and how to delete a cluster that is kept for the next run."""
    return [
        "",
        f"kept for the next run: cluster {cluster}",
        f"  use it:    export KUBECONFIG={shlex.quote(str(kubeconfig))}",
        f"  delete it: {shlex.join(end)}",
    ]


def _need(name: str, level: str) -> str:
    return name if level == "ready" else f"{name}:{level}"


def count(number: int, noun: str) -> str:
    """Return `1 test`, `2 tests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

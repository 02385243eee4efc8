"""What is shown on the terminal, made by pure functions; the edge writes it."""

from __future__ import annotations

import io
import shlex
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import Phase, Plan, Service
    from pytest_kindinfra.timeline import Running

_VERBS = {
    "build": ("building", "built"),
    "queue": ("waiting for its turn to create the cluster", "had its turn to be created"),
    "create": ("creating the cluster", "cluster created"),
    "enter": ("entering the cluster", "cluster entered"),
    "load": ("loading", "loaded"),
    "deploy": ("applying", "applied"),
    "wait": ("waiting until ready", "ready"),
    "run": ("running its step", "step done"),
    "take": ("taking the cluster over", "cluster taken over"),
    "delete": ("deleting the cluster", "cluster deleted"),
    "clear": ("deleting what is ours", "what is ours deleted"),
}
_BAR = 24
_SAID = 100


def progress_line(phase: Phase, *, ended: bool, since: float) -> str:
    """Return the line for the start or the end of a phase; `since` is when the run began."""
    doing, done = _VERBS.get(phase.kind, (phase.kind, phase.kind))
    at = f"kindinfra {(phase.end if ended else phase.start) - since:6.1f} s  [{phase.subject}]"
    if not ended:
        return f"{at} {doing}"
    ending = done if phase.ok else phase.note or f"FAILED {doing}"
    return f"{at} {ending} in {phase.end - phase.start:.1f} s"


def running_line(running: Iterable[Running], *, at: float, since: float) -> str:
    """Return the line that says what goes on."""
    parts = [
        f"[{one.subject}] {_VERBS.get(one.kind, (one.kind, one.kind))[0]} ({at - one.start:.0f} s)"
        for one in running
    ]
    return f"kindinfra {at - since:6.1f} s  still {', '.join(parts)}"


def heartbeat_line(running: Running, *, at: float, since: float) -> str:
    """Return the line that says what something that takes long printed last."""
    doing = _VERBS.get(running.kind, (running.kind, running.kind))[0]
    said = "".join(letter for letter in running.says() if letter.isprintable()).strip()
    said = f"{said[:_SAID]}..." if len(said) > _SAID else said
    ending = f": {said}" if said else ""
    return (
        f"kindinfra {at - since:6.1f} s  [{running.subject}] still {doing} "
        f"({at - running.start:.0f} s){ending}"
    )


def plan_line(plan: Plan, *, tests: int, cluster: str, engine: str) -> str:
    """Return the line that says what a run is going to bring up."""
    services, images = len(plan.services), len(plan.images)
    return (
        f"kindinfra: {count(tests, 'test')} {'needs' if tests == 1 else 'need'} "
        f"{count(services, 'service')} from {count(images, 'image')}, cluster {cluster} on {engine}"
    )


def plan_lines(plan: Plan, tags: Mapping[str, str]) -> list[str]:
    """Return what `--kindinfra-plan` shows.

    Args:
        plan: What would be done.
        tags: Image to the reference it would get, or to why that is not known yet.
    """
    lines = ["", "images:"]
    lines += [f"  {image.name:<20} {tags.get(image.name, 'pending')}" for image in plan.images]
    lines += ["", "services, in the order of their needs:"]
    for service in plan.services:
        needs = ", ".join(_need(need.name, need.level) for need in service.needs) or "-"
        lines.append(f"  {service.name:<20} needs {needs}{_templates(service, plan)}")
    lines += ["", "endpoints:"]
    names = {service.name for service in plan.services}
    for port in plan.ports:
        if port.service in names and port.endpoint:
            host = port.host_port or "a free port"
            where = f"127.0.0.1:{host} -> nodePort {port.node_port}"
            lines.append(f"  {port.service + '.' + port.endpoint:<32} {where}")
    return lines


def _templates(service: Service, plan: Plan) -> str:
    """Return what a service's objects are rendered from."""
    texts = [f"kustomization {service.kustomize}"] if service.kustomize else []
    if service.helm and (release := plan.releases.get(service.name)):
        texts.append(f'chart {service.helm.chart} as "{release.name}" in {release.namespace}')
    return "".join(f", {text}" for text in texts)


def failure_lines(failures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return each cause in full once, with what was not started because of it.

    Args:
        failures: Name of a service, or `cluster`, to its failed result.
    """
    causes = {one["root"]: one["full"] for one in failures.values() if not one["cancelled"]}
    lines: list[str] = []
    for root, full in causes.items():
        lines += ["", f"kindinfra: {root} failed:", *full.splitlines()]
        held_back = [
            name
            for name, one in failures.items()
            if one["root"] == root and root not in {f'service "{name}"', "the cluster"}
        ]
        if held_back:
            lines.append(f"not started because of it: {', '.join(held_back)}")
    return lines


def build_line(phases: Iterable[Phase], *, cached: int) -> str:
    """Return the line that sets the builds' sum against their wall time, empty without images.

    The sum is no promise of what is saved: beside others a build takes longer than alone.
    """
    builds = [phase for phase in phases if phase.kind == "build"]
    if not builds:
        return f"builds: none, {count(cached, 'image')} unchanged" if cached else ""
    added_up = sum(phase.end - phase.start for phase in builds)
    wall = max(phase.end for phase in builds) - min(phase.start for phase in builds)
    unchanged = f", {count(cached, 'image')} unchanged" if cached else ""
    work = f"{added_up:.1f} s of work one after another took {wall:.1f} s side by side"
    return f"builds: {work}{unchanged}"


def table_lines(
    phases: Sequence[Phase], *, cached: Sequence[str], width: int, color: bool
) -> list[str]:
    """Return the closing table: each phase with start, end, seconds and its place in time.

    Args:
        phases: All phases, by start.
        cached: Images that needed no build.
        width: Columns of the terminal.
        color: Whether escape codes are wanted.
    """
    if not phases:
        return []
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    begin = min(phase.start for phase in phases)
    total = max(phase.end for phase in phases) - begin or 1.0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("phase", "what"):
        table.add_column(header, no_wrap=True)
    for header in ("start", "end", "seconds"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for name in cached:
        table.add_row("build", name, "", "", "", "unchanged")
    for phase in phases:
        start, end = phase.start - begin, phase.end - begin
        style = "" if phase.ok else "red"
        mark = phase.note or ("" if phase.ok else "failed")
        bar = Text(f"{_bar(start, end, total)} {mark}".rstrip(), style=style or "green")
        seconds = f"{end - start:.1f}"
        table.add_row(
            phase.kind, phase.subject, f"{start:.1f}", f"{end:.1f}", seconds, bar, style=style
        )
    out = io.StringIO()
    # Names are shown as they are: rich would take `[x]` for markup and `:x:` for a picture.
    console = Console(
        file=out,
        width=width,
        force_terminal=color,
        no_color=not color,
        markup=False,
        emoji=False,
        highlight=False,
    )
    console.print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def kept_lines(what: str, *, kubeconfig: Path, delete: Sequence[str]) -> list[str]:
    """Return how to use and how to delete what was kept, such as a cluster."""
    return [
        "",
        f"kept: {what}",
        f"  use it:    export KUBECONFIG={shlex.quote(str(kubeconfig))}",
        f"  delete it: {shlex.join(delete)}",
    ]


def reused_lines(cluster: str, *, kubeconfig: Path, end: Sequence[str]) -> list[str]:
    """Return how to use and how to end a cluster that is there for the next run."""
    return [
        "",
        f"for the next run: cluster {cluster}",
        f"  use it: export KUBECONFIG={shlex.quote(str(kubeconfig))}",
        f"  end it: {shlex.join(end)}",
    ]


def _bar(start: float, end: float, total: float) -> str:
    left = int(start / total * _BAR)
    length = max(1, round((end - start) / total * _BAR))
    return " " * min(left, _BAR - 1) + "█" * min(length, _BAR - min(left, _BAR - 1))


def _need(name: str, level: str) -> str:
    return name if level == "ready" else f"{name}:{level}"


def count(number: int, noun: str) -> str:
    """Return `1 test`, `2 tests`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

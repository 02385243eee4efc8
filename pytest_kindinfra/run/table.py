"""The closing table: where the time of a run went, and its critical path. Pure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.model import Phase
from pytest_kindinfra.names import (
    declared_name,
    worker_of,
)
from pytest_kindinfra.run.report import OF_SERVICES
from pytest_kindinfra.system.timeline import PHASE_KINDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_kindinfra.model import Plan


_SHORT = 0.2
"""Seconds below which a phase has no row of its own."""


_BAR = 24


_LEAST_BAR = 6


_KIND = max(map(len, PHASE_KINDS))
"""Columns of the phase, which has room for each kind."""


_FIXED = _KIND + 3 * 7 + 5 * 2
"""Columns of the phase, of the three numbers, and between them all."""


_NAME = 24


_NARROW_NAME = 10


_NARROW = 80


_TOTAL = "total: "


_END = frozenset({"delete", "clear"})


class Row(NamedTuple):
    """A row of the table: seconds since the first phase began, and what became of it."""

    phase: str
    what: str
    start: float
    end: float
    mark: str = ""
    failed: bool = False


def rows_of(phases: Sequence[Phase]) -> list[Row]:
    """Return a row for each phase that took 0.2 s, failed or has a note; the last is for the rest.

    The last row's phase is empty: it has how many there are, and their seconds as its end.
    """
    begin = min((phase.start for phase in phases), default=0.0)
    shown: list[Row] = []
    rest: list[Row] = []
    for phase in phases:
        mark = phase.note or ("" if phase.ok else "failed")
        row = Row(phase.kind, phase.subject, phase.start - begin, phase.end - begin, mark,
                  not phase.ok)  # fmt: skip
        (shown if mark or row.end - row.start >= _SHORT else rest).append(row)
    if len(rest) == 1:
        return sorted([*shown, *rest], key=lambda row: row.start)
    if rest:
        seconds = sum(row.end - row.start for row in rest)
        shown.append(Row("", f"{len(rest)} under {_SHORT} s", 0.0, seconds))
    return shown


def fold_copies(phases: Sequence[Phase]) -> list[Phase]:
    """Return the phases with one for all copies of a service per worker, by start.

    It lasts from the first copy's start to the last one's end.
    """
    groups: dict[tuple[str, str], list[Phase]] = {}
    for phase in phases:
        worker = worker_of(phase.subject) if phase.kind in OF_SERVICES else ""
        subject = declared_name(phase.subject) if worker else phase.subject
        alone = "" if worker else f" {len(groups)}"  # no two others are one
        groups.setdefault((phase.kind, subject + alone), []).append(phase)
    folded = [one[0] if len(one) == 1 else _together(one) for one in groups.values()]
    return sorted(folded, key=lambda phase: phase.start)


def _together(phases: Sequence[Phase]) -> Phase:
    failed = [worker_of(one.subject) for one in phases if not one.ok]
    return Phase(
        kind=phases[0].kind,
        subject=f"{declared_name(phases[0].subject)} ({len(phases)} copies)",
        start=min(one.start for one in phases),
        end=max(one.end for one in phases),
        ok=not failed,
        note=f"failed for {', '.join(failed)}" if failed else "",
    )


def critical_path(
    phases: Sequence[Phase], needs: Mapping[str, Collection[str]]
) -> tuple[Phase, ...]:
    """Return the phases on which the end of the bring-up hung, the first one first.

    Each is the phase that ended last before the next one began; of several that ended together
    one of the same subject goes first, then one of a subject that it needs.

    Args:
        phases: All phases.
        needs: Subject to those that it needs: services, images.
    """
    left = [phase for phase in phases if phase.kind not in _END]
    if not left:
        return ()
    path = [max(left, key=lambda phase: phase.end)]
    while before := _before(path[-1], left, needs):
        path.append(before)
    return tuple(reversed(path))


_TOGETHER = 0.1


def _before(
    phase: Phase, phases: Sequence[Phase], needs: Mapping[str, Collection[str]]
) -> Phase | None:
    done = [one for one in phases if one.end <= phase.start + _TOGETHER / 2 and one is not phase]
    done = [one for one in done if one.start < phase.start]
    if not done:
        return None
    last = max(one.end for one in done)
    together = [one for one in done if one.end >= last - _TOGETHER]

    def rank(one: Phase) -> tuple[bool, bool, float]:
        return one.subject == phase.subject, one.subject in needs.get(phase.subject, ()), one.end

    return max(together, key=rank)


def needs_of(plan: Plan) -> dict[str, set[str]]:
    """Return service or image to the services and images that it needs."""
    found: dict[str, set[str]] = {image.name: set(image.needs) for image in plan.images}
    for service in plan.services:
        names = {need.name for need in service.needs} | set(service.images)
        found.setdefault(service.name, set()).update(names)
    return found


def recorded_phases(report: Mapping[str, Any]) -> list[Phase]:
    """Return the phases of run.json."""
    keys = ("kind", "subject", "start", "end", "ok")
    return [Phase(**{key: one[key] for key in keys}) for one in report["phases"]]


def recorded_needs(report: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the same as `needs_of`, by run.json."""
    plan = report["plan"]
    found = {name: set(needs) for name, needs in plan.get("image_needs", {}).items()}
    for service in plan["services"]:
        needs = {*service["needs"], *service["images"]}
        found.setdefault(service["name"], set()).update(needs)
    return found


def table_lines(
    phases: Sequence[Phase],
    *,
    cached: Sequence[str],
    width: int,
    color: bool,
    needs: Mapping[str, Collection[str]] | None = None,
) -> list[str]:
    """Return the closing table, and the line with the total and the critical path.

    The columns have the same places whatever is in them.

    Args:
        phases: All phases, by start.
        cached: Images that needed no build.
        width: Columns of the terminal.
        color: Whether escape codes are wanted.
        needs: As for `critical_path`.
    """
    if not phases:
        return []
    lines = _drawn(rows_of(fold_copies(phases)), cached=cached, width=width, color=color)
    return [*lines, total_line(phases, needs or {})]


def total_line(phases: Sequence[Phase], needs: Mapping[str, Collection[str]]) -> str:
    """Return the line with the total time and the critical path, empty without phases."""
    if not phases:
        return ""
    seconds = max(phase.end for phase in phases) - min(phase.start for phase in phases)
    path = critical_path(phases, needs)
    steps = [
        f"{phase.name} {phase.end - phase.start:.1f}"
        for phase in path
        if phase.end - phase.start >= _SHORT
    ]
    said = f"; critical path: {', '.join(steps)} (seconds)" if len(steps) > 1 else ""
    return f"{_TOTAL}{seconds:.1f} s{said}"


def quieter(lines: Sequence[str], *, verbosity: int, failed: bool) -> list[str]:
    """Return what is shown of the closing lines.

    Args:
        lines: All of them.
        verbosity: pytest's; -1 (`-q`) leaves the table's rows out, -2 all unless something failed.
        failed: A service or test failed.
    """
    if verbosity >= 0:
        return list(lines)
    if verbosity < -1 and not failed:
        return []
    total = next((at for at, line in enumerate(lines) if line.startswith(_TOTAL)), 0)
    return list(lines[total:])


def _drawn(rows: Sequence[Row], *, cached: Sequence[str], width: int, color: bool) -> list[str]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = [*(row.mark for row in rows), *("unchanged" for _ in cached)]
    name, bar, mark = _widths(width, longest=max(map(len, marks), default=0))
    total = max((row.end for row in rows if row.phase), default=0.0) or 1.0
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("phase", width=_KIND, no_wrap=True)
    table.add_column("what", width=name, no_wrap=True)
    for header in ("start", "end", "seconds"):
        table.add_column(header, justify="right", width=7, no_wrap=True)
    table.add_column("", no_wrap=True)
    for image in cached:
        table.add_row(
            "build", _cut(image, name), "", "", "", _shortened("unchanged", bar + 1 + mark)
        )
    for row in rows:
        if not row.phase:
            table.add_row("", _cut(row.what, name), "", "", f"{row.end:.1f}", "together")
            continue
        work = Text(
            f"{_bar(row.start, row.end, total, bar)} {_shortened(row.mark, mark)}".rstrip(),
            style="red" if row.failed else "green",
        )
        seconds = f"{row.end - row.start:.1f}"
        table.add_row(
            row.phase, _cut(row.what, name), f"{row.start:.1f}", f"{row.end:.1f}", seconds, work,
            style="red" if row.failed else "",
        )  # fmt: skip
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


def _cut(name: str, width: int) -> str:
    """Return a name in so many columns; of a longer one both ends stay, which tell them apart."""
    if len(name) <= width:
        return name
    left = (width - 1) // 2
    return f"{name[:left]}…{name[len(name) - (width - 1 - left) :]}"


def _shortened(note: str, width: int) -> str:
    return note if len(note) <= width else f"{note[: width - 1]}…" if width > 1 else ""


def _widths(width: int, *, longest: int) -> tuple[int, int, int]:
    """Return the columns of names, of bars and of notes, which together fit the terminal.

    rich would shrink every column of a table that is too wide, those of a fixed width too.
    """
    left = width - _FIXED
    name = _NAME if width >= _NARROW else _NARROW_NAME
    name = max(_NARROW_NAME, min(name, left - _LEAST_BAR - 1 - longest))
    bar = max(1, min(_BAR, left - name - 1 - longest))
    return name, bar, max(0, left - name - bar - 1)


def _bar(start: float, end: float, total: float, width: int) -> str:
    left = min(int(start / total * width), width - 1)
    length = max(1, round((end - start) / total * width))
    return " " * left + "█" * min(length, width - left)

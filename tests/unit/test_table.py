"""The closing table: fixed columns, short phases folded, the total and the critical path."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kindinfra.model import Declaration, Image, Phase, Plan
from pytest_kindinfra.run.report import Outcome, run_report
from pytest_kindinfra.run.table import (
    critical_path,
    fold_copies,
    needs_of,
    quieter,
    recorded_needs,
    rows_of,
    table_lines,
    total_line,
)
from pytest_kindinfra.system.timeline import PHASE_KINDS


def phase(
    kind: str, subject: str, start: float, end: float, *, ok: bool = True, note: str = ""
) -> Phase:
    return Phase(kind=kind, subject=subject, start=start, end=end, ok=ok, note=note)


PHASES = (
    phase("create", "cluster", 0, 20),
    phase("build", "api", 0, 10, ok=False),
    phase("load", "db", 10, 12),
    phase("wait", "db", 20, 24, ok=False, note="given up"),
)


class TestTheTable:
    def test_it_shows_each_phase_and_its_place_in_time(self) -> None:
        lines = table_lines(PHASES, cached=["db"], width=100, color=False)

        assert "\n".join(lines) == (
            "phase     what                        start      end  seconds\n"
            "build     db                                                   unchanged\n"
            "create    cluster                       0.0     20.0     20.0  ████████████████████\n"
            "build     api                           0.0     10.0     10.0  ██████████ failed\n"
            "load      db                           10.0     12.0      2.0            ██\n"
            "wait      db                           20.0     24.0      4.0                      "
            "████ given up\n"
            "total: 24.0 s; critical path: create cluster 20.0, wait db 4.0 (seconds)"
        )

    def test_columns_keep_their_places_whatever_the_names(self) -> None:
        names = ["a", "a-service-with-a-very-long-name-backend"]
        first, second = (
            table_lines([phase("wait", name, 0, 5)], cached=[], width=100, color=False)[1]
            for name in names
        )

        assert first.index("0.0") == second.index("0.0")
        assert "a-service-w…name-backend" in second

    @pytest.mark.parametrize("kind", PHASE_KINDS)
    def test_each_kind_of_phase_is_shown_in_full(self, kind: str) -> None:
        _, row, _ = table_lines([phase(kind, "cluster", 0, 5)], cached=[], width=80, color=False)

        assert row.split()[:3] == [kind, "cluster", "0.0"]

    def test_short_phases_are_one_row(self) -> None:
        short = [phase("deploy", f"s{number}", number, number + 0.1) for number in range(3)]

        rows = rows_of([phase("create", "cluster", 0, 5), *short])

        assert [row.what for row in rows] == ["cluster", "3 under 0.2 s"]
        assert rows[-1].end == pytest.approx(0.3)

    def test_one_short_phase_stays_as_it_is_and_a_failed_one_too(self) -> None:
        failed = phase("deploy", "web", 1, 1.01, ok=False)
        short = [phase("deploy", f"s{number}", number, number + 0.1) for number in range(2)]

        assert [row.what for row in rows_of([phase("build", "a", 0, 0.1)])] == ["a"]
        assert [row.what for row in rows_of([failed, *short])] == ["web", "2 under 0.2 s"]

    def test_a_failed_phase_is_red_where_there_are_colours(self) -> None:
        lines = table_lines(PHASES[:2], cached=[], width=100, color=True)

        assert "\x1b[31m" in lines[2]
        assert "\x1b[31m" not in lines[1]

    def test_it_keeps_within_a_narrow_terminal(self) -> None:
        lines = table_lines(PHASES, cached=["db"], width=50, color=False)

        assert max(map(len, lines[:-1])) <= 50
        assert len(lines) == 7

    def test_without_phases_there_is_none(self) -> None:
        assert table_lines([], cached=["db"], width=100, color=False) == []

    def test_a_run_of_no_time_divides_by_nothing(self) -> None:
        _, line, total = table_lines([phase("build", "a", 0, 0)], cached=[], width=80, color=False)

        assert line.split() == ["build", "a", "0.0", "0.0", "0.0", "█"]
        assert total == "total: 0.0 s"

    def test_names_are_shown_as_they_are(self) -> None:
        """A name in brackets was taken for a colour, and vanished."""
        phases = [phase("load", "registry/a[red]:smile:", 0, 1)]

        line = table_lines(phases, cached=[], width=80, color=False)[1]

        assert line.split()[1] == "registry/a[red]:smile:"


class TestTheCriticalPath:
    def test_it_goes_back_from_what_ended_last(self) -> None:
        phases = [
            phase("create", "cluster", 0, 20),
            phase("build", "api", 0, 30),
            phase("build", "db", 0, 5),
            phase("load", "api", 30, 31),
            phase("deploy", "api", 31, 31.1),
            phase("wait", "api", 31.1, 35),
            phase("delete", "cluster", 40, 42),
        ]

        names = [one.name for one in critical_path(phases, {})]

        assert names == ["build api", "load api", "deploy api", "wait api"]

    def test_of_what_ended_together_it_names_what_is_needed(self) -> None:
        phases = [
            phase("wait", "db", 0, 10.0),
            phase("wait", "other", 0, 10.02),
            phase("deploy", "api", 10.03, 10.1),
            phase("wait", "api", 10.1, 12),
        ]

        names = [one.name for one in critical_path(phases, {"api": {"db"}})]

        assert names == ["wait db", "deploy api", "wait api"]

    def test_it_is_the_same_in_the_terminal_and_by_run_json(self) -> None:
        """Needs of images on images were not in run.json, so its summary named another path."""
        images = (Image(name="api", needs=("base",)), Image(name="base"))
        plan = Plan(declaration=Declaration(folder=Path()), services=(), images=images)
        report = run_report(
            plan, cluster="c", phases=(), images={}, endpoints={},
            outcome=Outcome(state="passed", kept=False, failures={}),
        )  # fmt: skip

        assert recorded_needs(report) == needs_of(plan) == {"api": {"base"}, "base": set()}

    def test_one_phase_is_no_path(self) -> None:
        assert total_line([phase("create", "cluster", 0, 5)], {}) == "total: 5.0 s"
        assert critical_path([], {}) == ()


class TestQuiet:
    LINES = (
        *table_lines(PHASES, cached=[], width=100, color=False),
        "",
        "builds: none",
        "kept: cluster x",
    )

    def test_as_it_is_without_q(self) -> None:
        assert quieter(self.LINES, verbosity=0, failed=False) == list(self.LINES)

    def test_q_leaves_the_rows_out(self) -> None:
        lines = quieter(self.LINES, verbosity=-1, failed=False)

        assert lines[0].startswith("total: 24.0 s")
        assert lines[-1] == "kept: cluster x"

    def test_qq_leaves_all_out_unless_something_failed(self) -> None:
        assert quieter(self.LINES, verbosity=-2, failed=False) == []
        assert quieter(self.LINES, verbosity=-2, failed=True)[-1] == "kept: cluster x"


def test_copies_of_a_service_share_a_row_from_the_first_start_to_the_last_end() -> None:
    phases = [
        phase("wait", "api", 0, 1),
        phase("wait", "db.gw0", 1, 3),
        phase("wait", "db.gw1", 2, 9),
        phase("deploy", "db.gw0", 0, 1),
        phase("build", "my.image", 0, 1),
        phase("build", "my.other", 0, 1),
    ]
    rows = [(one.name, one.start, one.end) for one in fold_copies(phases)]

    assert sorted(rows) == [
        ("build my.image", 0, 1),
        ("build my.other", 0, 1),
        ("deploy db.gw0", 0, 1),
        ("wait api", 0, 1),
        ("wait db (2 copies)", 1, 9),
    ]


def test_the_row_names_the_workers_whose_copies_failed() -> None:
    phases = [
        Phase(kind="wait", subject="db.gw0", start=1.0, end=2.0),
        Phase(kind="wait", subject="db.gw1", start=1.0, end=3.0, ok=False),
    ]
    (folded,) = fold_copies(phases)

    assert (folded.ok, folded.note) == (False, "failed for gw1")


@pytest.mark.parametrize("width", [72, 80, 100])
def test_a_long_note_is_shown_whole_and_leaves_the_columns_their_places(width: int) -> None:
    """At 80 columns the phase was "cre…" and the note "8 of 10 layers pu…"."""
    pushed = Phase(kind="load", subject="one", start=11.2, end=29.7, note="8 of 10 layers pushed")
    created = phase("create", "cluster", 0, 35)

    lines = table_lines([created, pushed], cached=[], width=width, color=False)

    assert [line.split()[0] for line in lines[:3]] == ["phase", "create", "load"]
    assert lines[2].endswith("8 of 10 layers pushed")
    assert lines[1].index("35.0") == lines[0].index("end") - 1
    assert max(map(len, lines[:3])) <= width

"""The steps of the node image's build: finished or not at all, and never repeated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

    from tests.unit.tools.conftest import Machine

STEPS = Path(__file__).parents[3] / "tools" / "node-image" / "steps.sh"


def run_step(machine: Machine, make: str, key: str = "k") -> subprocess.CompletedProcess[str]:
    return machine.bash(
        f"source {STEPS}; work={machine.home}; steps=2; make_thing() {{ {make}; }};"
        f' step 1 thing {key} "5 s" "a thing"; cat "$result"'
    )


def test_a_finished_step_is_not_repeated(machine: Machine) -> None:
    first = run_step(machine, 'echo made >"$1"')
    second = run_step(machine, 'echo again >"$1"')

    assert (first.stdout, second.stdout) == ("made\n", "made\n")
    assert "trial: 1/2 a thing (about 5 s)" in first.stderr
    assert "trial: 1/2 a thing: there already" in second.stderr


def test_an_interrupted_step_never_counts_as_done(machine: Machine) -> None:
    first = run_step(machine, 'echo half >"$1"; kill -KILL $$')
    second = run_step(machine, 'echo whole >"$1"')

    assert first.returncode != 0
    assert second.stdout == "whole\n"


def test_a_changed_recipe_repeats_the_step_and_drops_the_old_result(machine: Machine) -> None:
    run_step(machine, 'echo old >"$1"', key="a")
    second = run_step(machine, 'echo new >"$1"', key="b")

    assert second.stdout == "new\n"
    assert not (machine.home / "thing-a").exists()


def test_a_failed_step_shows_its_last_lines_and_the_remedy(machine: Machine) -> None:
    result = run_step(machine, "echo the reason; false; echo never")

    assert result.returncode == 1
    assert "step 1 (a thing) failed with exit code 1" in result.stderr
    assert "  | the reason" in result.stderr
    assert "never" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("To fix: ")

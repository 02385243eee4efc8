"""What goes first is what most waits for, counted in seconds of earlier runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kindinfra.images.slots import build_ranks
from pytest_kindinfra.model import Declaration, Image, Need, Plan, Service

PLAN = Plan(
    declaration=Declaration(folder=Path()),
    images=(
        Image(name="base"),
        Image(name="api", needs=("base",)),
        Image(name="web", needs=("base",)),
        Image(name="tool"),
    ),
    services=(
        Service(name="db"),
        Service(name="api", images=("api",), needs=(Need(name="db"),)),
        Service(name="web", images=("web",), needs=(Need(name="api", level="started"),)),
        Service(name="job", images=("tool",)),
    ),
)
SECONDS = {
    "build base": 10,
    "build api": 20,
    "build web": 100,
    "build tool": 30,
    "deploy api": 1,
    "wait api": 4,
    "wait web": 2,
    "run job": 3,
    "wait db": 50,
}


def test_a_path_is_the_build_and_the_longest_of_what_waits_for_it() -> None:
    assert build_ranks(PLAN, SECONDS) == {
        "base": 10 + 100 + 2,
        "api": 20 + (1 + 4) + 2,
        "web": 100 + 2,
        "tool": 30 + 3,
    }


def test_without_any_memory_the_longest_chain_goes_first() -> None:
    assert build_ranks(PLAN, {}) == {"base": 4.0, "api": 3.0, "web": 2.0, "tool": 2.0}


@pytest.mark.parametrize(("known", "rank"), [(60.0, 60.0 + 1), (2.0, 2.0 + 1)])
def test_what_is_unknown_counts_as_the_mean_of_the_others(known: float, rank: float) -> None:
    ranks = build_ranks(PLAN, {"build web": known})

    assert (ranks["tool"], ranks["web"]) == (rank, rank)


def test_what_is_remembered_of_others_does_not_count() -> None:
    assert build_ranks(PLAN, {"build gone": 500, "load web": 7}) == build_ranks(PLAN, {})


def test_a_plan_without_images_has_no_ranks() -> None:
    assert build_ranks(Plan(declaration=Declaration(folder=Path())), SECONDS) == {}

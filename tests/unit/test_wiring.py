"""Engines are found by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.plan.options import OPTIONS
from pytest_kindinfra.wiring import engines_here, make_tools

if TYPE_CHECKING:
    from pytest_kindinfra.model import EngineName

(CHOICES,) = (option.choices for option in OPTIONS if option.key == "engine")


@pytest.mark.parametrize("name", [choice for choice in CHOICES if choice != "auto"])
def test_each_engine_that_the_option_offers_is_found(
    name: EngineName,
) -> None:
    assert make_tools(name).engine.name == name


def test_the_option_offers_no_other_engine_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none answers, the first one says what is wrong; `auto` comes before all of them."""
    monkeypatch.setenv("PATH", "/nowhere")

    assert CHOICES[:2] == ("auto", *engines_here())


def test_an_engine_is_not_missed_where_none_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    assert engines_here(required=False) == ()

"""The tables of docs/ that are made of the options and of the schema are current."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.plan.options import OPTIONS

ROOT = Path(__file__).parents[3]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "tools" / "docs" / "tables.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load()


@pytest.mark.parametrize("page", tables.PAGES)
def test_the_tables_of_a_page_are_current(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")

    assert text == tables.filled(text), "run `make format`"


def test_what_is_around_a_table_stays() -> None:
    page = "before\n<!-- table: options -->\nold\n<!-- end -->\nafter\n"

    filled = tables.filled(page)

    assert filled.startswith("before\n<!-- table: options -->\n")
    assert filled.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in filled


def test_each_option_has_a_row_with_its_default_and_who_uses_it() -> None:
    filled = tables.filled("<!-- table: options -->\n<!-- end -->")

    assert all(f"| `{option.variable}` |" in filled for option in OPTIONS)
    assert "`timeout` | seconds | 600 | pytest, `kindinfra`, functions |" in filled
    assert "`plan` | flag | off | pytest |" in filled


def test_keys_within_tables_of_a_users_name_have_rows() -> None:
    filled = tables.filled("<!-- table: keys -->\n<!-- end -->")

    assert "| `images.NAME.dockerfile` |" in filled
    assert "| `services.NAME.endpoints.NAME.port` | integer or string |" in filled

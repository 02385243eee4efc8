"""Write the tables of docs/ that are made of the code: all options, all keys of the declaration.

`make format` calls it, and a test says when a table is not current. What is around the markers,
`<!-- table: NAME -->` and `<!-- end -->`, is written by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pytest_kindinfra.plan.options import OPTIONS, Caller, Option
from pytest_kindinfra.plan.schema import declaration_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[2]
PAGES = ("docs/options.md", "docs/schema.md")
"""The pages with tables."""

_TABLE = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
_TYPES = {"bool": "flag", "int": "whole number", "float": "seconds", "Path": "path"}
_CALLERS = {"pytest": "pytest", "command": "`kindinfra`", "functions": "functions"}


def filled(page: str) -> str:
    """Return the text of a page with its tables as they should be."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}\n{_TABLES[found[1]]()}\n"

    return _TABLE.sub(table, page)


def _options() -> str:
    rows = [
        (
            f"[`{_heading(option)}`](#{_anchor(_heading(option))})",
            f"`{option.variable}`",
            f"`{option.key}`",
            _type(option),
            option.default or ("off" if option.type_name == "bool" else "none"),
            ", ".join(_CALLERS[one] for one in get_args(Caller) if one in option.used_by),
        )
        for option in OPTIONS
    ]
    titles = ("option", "environment", "key in the file", "value", "default", "used by")
    return _markdown(titles, rows)


def _heading(option: Option) -> str:
    return f"{option.flag}={option.metavar}" if option.metavar else option.flag


def _anchor(title: str) -> str:
    return re.sub(r"[^\w-]", "", title.lower())


def _type(option: Option) -> str:
    if option.choices:
        return ", ".join(f"`{one}`" for one in option.choices)
    return _TYPES.get(option.type_name, "text")


def _keys() -> str:
    return _markdown(("key", "value", "what it is"), _rows("", declaration_schema()))


def _rows(place: str, table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each key below a table, those of tables within it too."""
    for key, what in table.get("properties", {}).items():
        name, tables = f"{place}{key}", what.get("additionalProperties")
        named = tables if isinstance(tables, dict) and "properties" in tables else {}
        if name == "options":
            continue
        if "properties" not in what and not named:
            yield f"`{name}`", _kind(what), what.get("description", "")
        yield from _rows(f"{name}.", what)
        yield from _rows(f"{name}.NAME.", named)


def _kind(what: Mapping[str, Any]) -> str:
    if "enum" in what:
        return ", ".join(f"`{json.dumps(one)}`" for one in what["enum"])
    if "anyOf" in what:
        return " or ".join(dict.fromkeys(_kind(one) for one in what["anyOf"]))
    given = what.get("type", "any")
    kinds = " or ".join([given] if isinstance(given, str) else given)
    if kinds == "array":
        return f"array of {_kind(what.get('items', {}))}"
    return "table" if kinds == "object" else kinds


def _markdown(titles: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    titles = tuple(titles)
    lines = (titles, ("---",) * len(titles), *rows)
    cells = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


_TABLES = {"options": _options, "keys": _keys}


def main() -> None:
    """Write the tables of all pages."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(filled(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()

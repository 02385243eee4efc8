"""The JSON Schema of the declaration agrees with the reader, on what is right and what is wrong."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

import pytest_kindinfra
from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.options import OPTIONS
from pytest_kindinfra.plan.schema import declaration_schema
from pytest_kindinfra.plan.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SHIPPED = Path(pytest_kindinfra.__file__).parent / "plan" / "kindinfra.schema.json"
FENCE = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def declarations() -> dict[str, str]:
    """Return every declaration of the examples, the tests and the documentation, by its place."""
    files = [*ROOT.glob("examples/**/kindinfra.toml"), *ROOT.glob("tests/e2e/**/kindinfra.toml")]
    found = {str(file.relative_to(ROOT)): file.read_text() for file in files}
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]:
        for number, text in enumerate(FENCE.findall(page.read_text()), 1):
            if "[tool." not in text:
                found[f"{page.name} {number}"] = text
    return found


def accepted_by_schema(tables: dict[str, Any]) -> bool:
    validator = jsonschema.Draft7Validator(declaration_schema())
    return validator.is_valid(tables)


def accepted_by_reader(tables: dict[str, Any]) -> bool:
    try:
        declaration = parse_declaration(tables, folder=Path(), source="kindinfra.toml")
    except DeclarationError:
        return False
    _, problems = read_settings(lambda _: None, declaration.options, source="kindinfra.toml")
    return not problems


def test_the_schema_is_sound() -> None:
    jsonschema.Draft7Validator.check_schema(declaration_schema())


def test_the_shipped_file_is_what_the_reader_asks_for() -> None:
    """If not: `kindinfra schema > pytest_kindinfra/plan/kindinfra.schema.json`."""
    assert json.loads(SHIPPED.read_text()) == declaration_schema()


@pytest.mark.parametrize("place", declarations())
def test_every_declaration_that_is_right_is_accepted(place: str) -> None:
    tables = tomllib.loads(declarations()[place])

    assert accepted_by_reader(tables)
    assert accepted_by_schema(tables), place


@pytest.mark.parametrize(
    "text",
    [
        "[servces.web]",
        "[cluster]\nnodes = 3",
        "[cluster]\ntuning = 'yes'",
        "[cluster]\nnamespace = 'Not A Label'",
        "[cluster]\nregistry = 'quay.io'",
        "[images.Web]\ncontext = '.'",
        "[images.web]\ncontext = ['.']",
        "[images.web]\ncontext = ''",
        "[images.web]\nweight = 0",
        "[images.web]\nbuild_args = ['A=1']",
        "[images.web]\nbuild_args = { A = ['1'] }",
        "[images.web]\ntimeout = 0",
        "[services.'not a label']\nmanifests = ['a.yaml']",
        "[services.web]\nmanifests = 'a.yaml'",
        "[services.web]\nmanifests = ['']",
        "[services.web]\nmanifests = ['a.yaml']\nneeds = ['db:redy']",
        "[services.web]\nmanifests = ['a.yaml']\nrestarts = -1",
        "[services.web]\nmanifests = ['a.yaml']\npatience = -1",
        "[services.web]\nmanifests = ['a.yaml']\nbefore = 'pods'",
        "[services.web]\nrun = 'no function'",
        "[services.web]\nmanifests = ['a.yaml']\nendpoints.api = { path = '/' }",
        "[services.web]\nmanifests = ['a.yaml']\nendpoints.api = { port = 0 }",
        "[services.web]\nmanifests = ['a.yaml']\nendpoints.api = { port = 80, path = 'x' }",
        "[services.web]\nmanifests = ['a.yaml']\nendpoints.api = { port = 80, scheme = 'ftp' }",
        "[services.web]\nmanifests = ['a.yaml']\nendpoints.api = { port = 80, host_port = 70000 }",
        "[services.web]\nmanifests = ['a.yaml']\nendpoints.api = 80",
        "[services.web]\nhelm = { values = ['v.yaml'] }",
        "[services.web]\nhelm = { chart = 'c', set = ['a=b'] }",
        "[options]\nkeep = 'sometimes'",
        "[options]\nbuild_jobs = 0",
        "[options]\ncapacity = 'two'",
        "[options]\nreuze = true",
        "[options]\ntimeout = 'soon'",
        "[env]\nURL = ['x']",
    ],
)
def test_what_is_wrong_by_itself_neither_accepts(text: str) -> None:
    tables = tomllib.loads(text)

    assert not accepted_by_reader(tables)
    assert not accepted_by_schema(tables)


def test_a_capacity_in_whole_slots_is_accepted_by_both() -> None:
    tables = tomllib.loads("[options]\ncapacity = 2")

    assert accepted_by_reader(tables)
    assert accepted_by_schema(tables)


def descriptions(place: str, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key of the tables in a schema with its description, which may be empty."""
    tables = [schema, schema.get("additionalProperties")]
    for table in tables:
        for key, one in table.get("properties", {}).items() if isinstance(table, dict) else ():
            yield f"{place}.{key}", one.get("description", "")
            yield from descriptions(f"{place}.{key}", one)


def test_each_key_says_what_it_is_for() -> None:
    found = dict(descriptions("", declaration_schema()))

    assert [key for key, text in found.items() if not text] == []
    assert {".env", ".cluster.ttl", ".services.helm.chart", ".options.reuse"} <= found.keys()
    assert len(declaration_schema()["properties"]["options"]["properties"]) == len(OPTIONS)


def test_descriptions_speak_of_the_file_and_not_of_records_in_python() -> None:
    found = dict(descriptions("", declaration_schema()))

    assert {
        key: text for key, text in found.items() if re.search(r"\b(None|tuple|pairs)\b", text)
    } == {}

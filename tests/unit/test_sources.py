"""A kind of source is one class and one entry: all that handles sources knows it by these."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.commands.doctor import optional_programs
from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.model import Plan, Service
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.records import read_record
from pytest_kindinfra.plan.source import Program, RenderOptions, Source, SourceObjects
from pytest_kindinfra.plan.sources import SOURCES, describe_sources, render
from pytest_kindinfra.system.timeline import Deadline
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.plan.tables import Table

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}


class Jsonnet(Source):
    """A template language with a program of its own."""

    key = "jsonnet"
    program = Program(("jsonnet", "--version"), "jsonnet files")

    def read(self, service: str, table: Table) -> Path | None:
        return table.path(self.key)

    def problems(self, value: Path, folder: Path) -> Iterator[str]:
        if not (folder / value).is_file():
            yield f'jsonnet "{value}": no such file'

    def render(self, value: Path, *, service: str, folder: Path, shared: Any) -> SourceObjects:
        done = shared.runner.run(["jsonnet", str(folder / value)], deadline=shared.deadline)
        return SourceObjects([json.loads(done.stdout)])

    def describe(self, value: Path, release: Any) -> str:
        return f"jsonnet {value}"


@pytest.fixture(autouse=True)
def _jsonnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "jsonnet", Jsonnet())


def declared(**api: Any) -> Service:
    tables = {"services": {"api": api}}
    (service,) = parse_declaration(tables, folder=Path(), source="kindinfra.toml").services
    return service


def test_its_key_is_read() -> None:
    assert declared(jsonnet="a.jsonnet").sources == {"jsonnet": Path("a.jsonnet")}
    assert declared(manifests=["a.yaml"]).sources == {}


def test_a_wrong_value_is_told_with_its_place() -> None:
    with pytest.raises(DeclarationError) as caught:
        declared(jsonnet=3)

    assert caught.value.problems == ("[services.api] jsonnet must be a string, not 3",)


def test_it_deploys_images() -> None:
    assert declared(image="api", jsonnet="a.jsonnet").images == ("api",)

    with pytest.raises(DeclarationError) as caught:
        declared(image="api")

    assert caught.value.problems == (
        (
            "[services.api] has an image but neither manifests, kustomize, helm, jsonnet nor run,"
            " so nothing would use it"
        ),
    )


def test_a_hook_may_declare_it() -> None:
    service = Service(name="api", sources={"jsonnet": "a.jsonnet"})

    assert read_record(service) == (declared(jsonnet="a.jsonnet"), ())


def test_its_objects_are_rendered(tmp_path: Path) -> None:
    (tmp_path / "a.jsonnet").touch()
    runner = FakeRunner(lambda argv: json.dumps(MAP) if argv[0] == "jsonnet" else "")
    options = RenderOptions(
        runner=runner,
        namespace="shop",
        kubernetes=None,
        deadline=Deadline.after(60),
        charts=tmp_path,
    )
    services = [declared(jsonnet="a.jsonnet"), Service(name="b", sources={"jsonnet": Path("no")})]

    rendered = render(services, folder=tmp_path, options=options)

    assert rendered.objects == {"api": (MAP,)}
    assert rendered.problems == ('[services.b] jsonnet "no": no such file',)


def test_the_plan_and_the_doctor_name_it(tmp_path: Path) -> None:
    declaration = parse_declaration({}, folder=tmp_path, source="kindinfra.toml")

    assert describe_sources(declared(jsonnet="a"), Plan(declaration=declaration)) == ", jsonnet a"
    assert optional_programs()["jsonnet", "--version"] == ["jsonnet files"]

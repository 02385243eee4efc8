"""`kindinfra pull` fetches what a run needs from elsewhere, and says what came of each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.commands import pull as pulling
from pytest_kindinfra.errors import CommandError, KindInfraError
from tests.fakes import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POD = "{apiVersion: v1, kind: Pod, metadata: {name: %s}, spec: {containers: [%s]}}"
DECLARATION = """
[cluster]
node_image = "kindest/node:v1.34.4"
[images.base]
context = "base"
[images.web]
context = "web"
needs = ["base"]
[images.bought]
prebuilt = "registry.example.com/bought:1"
[services.web]
manifests = ["web.yaml"]
[services.db]
manifests = ["db.yaml"]
"""
ALL = ["kindest/node:v1.34.4", "debian:12", "registry.example.com/bought:1", "postgres:15"]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine of a project whose images come from four places."""
    for name, text in {
        "kindinfra.toml": DECLARATION,
        "base/Dockerfile": "FROM debian:12\n",
        "web/Dockerfile": "FROM localhost/base\n",
        "web.yaml": POD % ("web", "{name: a, image: web}, {name: b, image: bought}"),
        "db.yaml": POD % ("db", "{name: c, image: 'postgres:15'}"),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    engine = FakeEngine()
    monkeypatch.setattr(pulling, "make_tools", lambda _name: SimpleNamespace(engine=engine))
    return engine


def run(*services: str, save: Path | None = None) -> tuple[bool, list[str]]:
    lines: list[str] = []
    return pulling.pull(services, save=save, say=lines.append), lines


def refusing(reference: str) -> Callable[[str], None]:
    def refuse(wanted: str) -> None:
        if wanted == reference:
            argv = ("docker", "pull", wanted)
            raise CommandError(argv, exit_code=1, output="denied", what=f'pulling "{wanted}"')

    return refuse


def test_every_image_of_a_registry_is_pulled(engine: FakeEngine) -> None:
    well, lines = run()

    assert well
    assert sorted(engine.pulled) == sorted(ALL)
    assert sorted(line.partition(": pulled in ")[0] for line in lines) == sorted(ALL)


def test_what_the_engine_has_is_not_pulled_again(engine: FakeEngine) -> None:
    engine.images = {"postgres:15": "sha256:5"}

    _, lines = run()

    assert "postgres:15" not in engine.pulled
    assert "postgres:15: in the engine" in lines


def test_only_what_the_named_services_need_is_pulled(engine: FakeEngine) -> None:
    run("db")

    assert sorted(engine.pulled) == ["kindest/node:v1.34.4", "postgres:15"]


def test_an_image_that_cannot_be_pulled_does_not_keep_the_others(engine: FakeEngine) -> None:
    engine.on_pull = refusing("debian:12")

    well, lines = run()

    assert not well
    assert sorted(engine.pulled) == sorted(set(ALL) - {"debian:12"})
    (told,) = [line for line in lines if line.startswith("debian:12")]
    assert told.startswith('debian:12: not pulled\npulling "debian:12": exit code 1\n')


def test_a_node_image_that_kind_chooses_cannot_be_pulled(
    engine: FakeEngine, tmp_path: Path
) -> None:
    (tmp_path / "kindinfra.toml").write_text('[services.db]\nmanifests = ["db.yaml"]\n')

    well, lines = run()

    assert well
    assert engine.pulled == ["postgres:15"]
    assert "the node image is not named, so kind chooses one" in lines[-1]


@pytest.mark.usefixtures("engine")
def test_what_was_saved_is_printed_with_the_commands_for_the_other_machine(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "for the other"

    well, lines = run("db", save=folder)

    assert well
    assert {path.name for path in (folder / "images").iterdir()} == {
        "kindest_node_v1.34.4.tar",
        "postgres_15.tar",
    }
    assert lines[-1] == (
        f"  for file in '{folder}/images'/*.tar; do docker load --input \"$file\"; done"
    )


@pytest.mark.usefixtures("engine")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(
        KindInfraError, match=r'file/images" cannot be written: Not a directory\nTo'
    ):
        run("db", save=tmp_path / "file")

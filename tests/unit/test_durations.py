"""How long things took is kept for the next run; losing it never fails one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.model import Declaration, Image, Phase, Service
from pytest_kindinfra.state.memory import cache_folder, file_for, keep_durations, read_durations

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Declaration:
    folder = tmp_path / "project"
    folder.mkdir()
    return Declaration(
        folder=folder,
        images=(Image(name="api"), Image(name="web")),
        services=(Service(name="api"),),
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def took(name: str, seconds: float, *, ok: bool = True) -> Phase:
    kind, _, subject = name.partition(" ")
    return Phase(kind=kind, subject=subject, start=100.0, end=100.0 + seconds, ok=ok)


def test_what_was_kept_comes_back(cache: Path, project: Declaration) -> None:
    phases = [took("build api", 12.5), took("wait api", 3), took("load api", 4)]

    assert keep_durations(cache, project, phases) is None
    assert read_durations(cache, project.folder) == ({"build api": 12.5, "wait api": 3.0}, None)


def test_what_this_run_did_not_do_keeps_its_seconds(cache: Path, project: Declaration) -> None:
    keep_durations(cache, project, [took("build api", 12), took("build web", 5)])
    keep_durations(cache, project, [took("build api", 2), took("build web", 1, ok=False)])

    assert read_durations(cache, project.folder)[0] == {"build api": 2.0, "build web": 5.0}


def test_what_is_no_longer_declared_is_forgotten(cache: Path, project: Declaration) -> None:
    keep_durations(cache, project, [took("build api", 12), took("build gone", 5)])

    assert read_durations(cache, project.folder)[0] == {"build api": 12.0}


def test_another_project_has_its_own(cache: Path, project: Declaration) -> None:
    keep_durations(cache, project, [took("build api", 12)])

    assert read_durations(cache, project.folder.parent) == ({}, None)


def test_a_run_that_did_nothing_writes_nothing(cache: Path, project: Declaration) -> None:
    assert keep_durations(cache, project, []) is None
    assert not cache.exists()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param("{", "Expecting property name", id="cut off"),
        pytest.param("", "Expecting value", id="empty"),
        pytest.param("\udcff", "invalid start byte", id="no text"),
        pytest.param("[1]", "not a mapping", id="something else"),
        pytest.param('{"a": ' * 100_000, "recursion", id="deep"),
    ],
)
def test_a_broken_file_counts_as_none_and_is_named_and_replaced(
    text: str, wrong: str, cache: Path, project: Declaration
) -> None:
    path = file_for(cache, "durations", project.folder)
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode(errors="surrogateescape"))

    seconds, problem = read_durations(cache, project.folder)

    assert seconds == {}
    assert problem is not None
    assert problem.startswith(f"{path}: ")
    assert wrong in problem
    assert keep_durations(cache, project, [took("build api", 1)]) is None
    assert read_durations(cache, project.folder) == ({"build api": 1.0}, None)


@pytest.mark.parametrize("seconds", [{"build api": "long"}, {"build api": -1}, ["build api"], None])
def test_nonsense_in_it_counts_as_nothing(seconds: Any, cache: Path, project: Declaration) -> None:
    path = file_for(cache, "durations", project.folder)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"seconds": seconds}))

    assert read_durations(cache, project.folder) == ({}, None)


def test_a_folder_that_cannot_be_written_is_named(cache: Path, project: Declaration) -> None:
    cache.write_text("this is a file")

    problem = keep_durations(cache, project, [took("build api", 1)])

    assert problem is not None
    assert problem.startswith(f"{file_for(cache, 'durations', project.folder)}: ")


def test_nothing_is_left_aside(cache: Path, project: Declaration) -> None:
    keep_durations(cache, project, [took("build api", 1)])

    assert list(cache.rglob("*.*")) == [file_for(cache, "durations", project.folder)]


def test_the_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    assert cache_folder().name == "pytest-kindinfra"
    assert tmp_path in cache_folder().parents

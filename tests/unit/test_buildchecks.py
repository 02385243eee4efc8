"""What a Dockerfile shows of mistakes is told before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.images.checks import build_problems
from pytest_kindinfra.model import Image

if TYPE_CHECKING:
    from pathlib import Path

BASE = Image(name="base", prebuilt="x:1", names=("registry.example/org/base:1",))


def problems(
    folder: Path, text: str, *others: Image, prepared: bool = False, **app: Any
) -> list[str]:
    (folder / "Dockerfile").write_text(text)
    images = [*(others or (BASE,)), Image(name="app", **app)]
    return list(build_problems(images, folder=folder, prepared=prepared))


@pytest.mark.parametrize(
    ("text", "app"),
    [
        ("FROM base", {}),
        ("FROM base:dev", {}),
        ("FROM localhost/base", {}),
        ("FROM localhost/base:dev AS x", {}),
        ("FROM registry.example/org/base:1", {}),
        ("ARG BASE=base\nFROM ${BASE}", {}),
        ("ARG BASE\nFROM $BASE", {"build_args": (("BASE", "registry.example/org/base:1"),)}),
        ("ARG BASE\nFROM $BASE", {"build_options": ("--build-arg", "BASE=base")}),
        ("FROM busybox\nCOPY --from=base / /", {}),
        ("FROM busybox\nRUN --mount=type=bind,from=base,target=/b ls", {}),
        ("FROM b", {"build_options": ("--build-context", "b=docker-image://base")}),
        ("FROM scratch AS base\nFROM busybox\nCOPY --from=base / /", {}),
        ("# syntax=example/own\nBASE base", {}),
    ],
)
def test_a_need_may_be_used_in_many_ways(text: str, app: dict[str, Any], tmp_path: Path) -> None:
    assert problems(tmp_path, text, needs=("base",), **app) == []


def test_a_need_that_nothing_uses_is_a_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, "FROM busybox\nRUN x --from=base", needs=("base",)) == [
        (
            '[images.app] needs "base", but no FROM, COPY --from or RUN --mount of Dockerfile'
            ' uses it; it uses "busybox": write FROM base, or remove it from needs'
        )
    ]


@pytest.mark.parametrize("version", ["", ":2", "@sha256:" + "0123456789abcdef" * 4])
def test_a_further_name_without_a_tag_means_every_version_in_a_dockerfile(
    version: str, tmp_path: Path
) -> None:
    base = Image(name="base", prebuilt="x:1", names=("registry.example/org/base",))

    assert (
        problems(tmp_path, f"FROM registry.example/org/base{version}", base, needs=("base",)) == []
    )


def test_a_registrys_other_version_is_not_the_declared_image(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "FROM registry.example/org/base:2", needs=("base",))

    assert problem.startswith('[images.app] needs "base", but no FROM')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "FROM registry.example/org/base:1",
            (
                '[images.app] Dockerfile uses "registry.example/org/base:1", which is the image'
                ' "base": add "base" to needs'
            ),
        ),
        (
            "FROM base",
            (
                '[images.app] Dockerfile uses "base", which is the image "base": add "base" to'
                " needs, or add a tag if the registry's image is meant"
            ),
        ),
        (
            "FROM x\nCOPY --from=localhost/base:dev / /",
            (
                '[images.app] Dockerfile uses "localhost/base:dev", which is the image "base": add'
                ' "base" to needs'
            ),
        ),
    ],
)
def test_a_declared_image_that_is_not_among_the_needs_is_a_problem(
    text: str, problem: str, tmp_path: Path
) -> None:
    """It would come from a registry, or be an old one of the engine's."""
    assert problems(tmp_path, text) == [problem]


@pytest.mark.parametrize(
    ("text", "names"), [("FROM app:7", ()), ("FROM app", ()), ("FROM app:7", ("app:7",))]
)
def test_an_image_may_start_from_the_registrys_of_its_own_name(
    text: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    """`[images.redis]` that adds something to `FROM redis:7`."""
    assert problems(tmp_path, text, names=names) == []


def test_a_registrys_image_that_ends_like_a_declared_one_is_none(tmp_path: Path) -> None:
    text = "FROM other.example/base:1\nCOPY --from=base:3 / /\nCOPY --from=base@sha256:1f / /"

    assert problems(tmp_path, text) == []


def test_a_variable_that_is_not_set_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NPM_TOKEN", raising=False)
    arguments = (("HASH", "$2b$12$abc"), ("OK", "${NPM_TOKEN:-}"), ("TOKEN", "${NPM_TOKEN}"))

    found = problems(tmp_path, "FROM base", needs=("base",), build_args=arguments)

    how = "; set it, give a default (${NAME:-default}), or write $$ for a dollar sign"
    assert found == [
        f'[images.app] build_args.HASH is "$2b$12$abc": variable "abc" is not set{how}',
        f'[images.app] build_args.TOKEN is "${{NPM_TOKEN}}": variable "NPM_TOKEN" is not set{how}',
    ]


def test_a_hook_may_set_variables_and_write_the_dockerfile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GENERATED", raising=False)
    images = [Image(name="later", context=tmp_path / "none-yet", needs=("base",)), BASE]

    assert list(build_problems(images, folder=tmp_path, prepared=True)) == []
    arguments = (("V", "$GENERATED"),)
    assert problems(tmp_path, "FROM x", prepared=True, build_args=arguments) == []

"""Flags of a build in every form in which they may be written."""

from __future__ import annotations

import pytest

from pytest_kindinfra.model import Image
from pytest_kindinfra.plan.buildoptions import (
    Flag,
    NamedContext,
    build_arguments,
    flags,
    layout_path,
    named_contexts,
    option_problems,
    platform_of,
    with_home,
    with_images,
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--target", "x"), [Flag("--target", "x")]),
        (("--target=x",), [Flag("--target", "x")]),
        (("--build-arg", "A=b=c"), [Flag("--build-arg", "A=b=c")]),
        (("-f", "x"), [Flag("--file", "x")]),
        (("-fx",), [Flag("--file", "x")]),
        (("-f=x",), [Flag("--file", "x")]),
        (("-q", "--pull"), [Flag("-q"), Flag("--pull")]),
        (("--no-cache", "--ssh", "default"), [Flag("--no-cache"), Flag("--ssh", "default")]),
        (("--not-known-here", "x"), [Flag("--not-known-here", "x")]),
        (("--not-known-here", "--pull"), [Flag("--not-known-here"), Flag("--pull")]),
        (("--platform=",), [Flag("--platform", "")]),
        (("stray", "--pull"), [Flag("--pull")]),
        (("--target",), [Flag("--target")]),
    ],
)
def test_flags_come_with_their_values(options: tuple[str, ...], expected: list[Flag]) -> None:
    assert list(flags(options)) == expected


@pytest.mark.parametrize(
    ("value", "kind", "what"),
    [
        ("./skills", "folder", "./skills"),
        ("/abs/with:colon,comma", "folder", "/abs/with:colon,comma"),
        ("~/shared", "folder", "~/shared"),
        ("docker-image://python:3.12", "image", "python:3.12"),
        ("container-image://python:3.12", "image", "python:3.12"),
        ("oci-layout://./layout:1@sha256:" + "a" * 64, "layout", "./layout:1@sha256:" + "a" * 64),
        ("https://example.org/x.git#main", "remote", "https://example.org/x.git#main"),
        ("git@example.org:x/y.git", "remote", "git@example.org:x/y.git"),
        ("github.com/x/y", "remote", "github.com/x/y"),
    ],
)
def test_a_further_context_is_what_buildx_takes_it_for(value: str, kind: str, what: str) -> None:
    for options in (("--build-context", f"x={value}"), (f"--build-context=x={value}",)):
        assert named_contexts(options) == (NamedContext("x", kind, what),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("./a", "./a"),
        ("./a:latest", "./a"),
        ("./a@sha256:" + "1" * 64, "./a"),
        ("./a:1@sha256:" + "1" * 64, "./a"),
        ("/x:y/a", "/x:y/a"),
    ],
)
def test_a_layout_is_a_folder_whatever_follows_its_path(value: str, path: str) -> None:
    assert layout_path(value) == path


def test_arguments_and_the_platform_are_known() -> None:
    options = ("--build-arg", "A=1", "--build-arg=B", "--platform", "linux/arm64")

    assert build_arguments(options) == {"A": "1", "B": None}
    assert platform_of(options) == "linux/arm64"
    assert platform_of(("--pull",)) is None


@pytest.mark.parametrize(
    ("written", "made"),
    [
        (("--build-context", "s=~/shared"), ("--build-context", "s=/home/me/shared")),
        (("--build-context=s=~",), ("--build-context=s=/home/me",)),
        (
            ("--build-context=s=oci-layout://~/x:1",),
            ("--build-context=s=oci-layout:///home/me/x:1",),
        ),
        (("--secret", "id=n,src=~/.npmrc"), ("--secret", "id=n,src=/home/me/.npmrc")),
        (("--secret", 'id=n,"src=~/a,b"'), ("--secret", 'id=n,"src=/home/me/a,b"')),
        (("--ssh", "default=~/.ssh/id"), ("--ssh", "default=/home/me/.ssh/id")),
        (("--cache-to=type=local,dest=~/c",), ("--cache-to=type=local,dest=/home/me/c",)),
        (("--iidfile", "~/id"), ("--iidfile", "/home/me/id")),
        (("--secret", "id=n,src=a~b"), ("--secret", "id=n,src=a~b")),
        (("--build-arg", "A=~/x"), ("--build-arg", "A=~/x")),
    ],
)
def test_the_home_folder_may_be_written_as_a_tilde(
    written: tuple[str, ...], made: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell is there that would replace it, and Docker does not."""
    monkeypatch.setenv("HOME", "/home/me")

    assert with_home(written) == made


def test_a_declared_image_of_a_further_context_is_the_one_of_this_run() -> None:
    options = ("--build-context", "a=docker-image://base", "--build-context=b=docker-image://x:1")

    assert with_images(options, {"base": "localhost/base:1f"}.get) == (
        *("--build-context", "a=docker-image://localhost/base:1f"),
        "--build-context=b=docker-image://x:1",
    )


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--file", "x"), '"--file x" is not allowed: use the key dockerfile'),
        (("-fx",), '"-fx" is not allowed: use the key dockerfile'),
        (("--target=x",), '"--target=x" is not allowed: use the key target'),
        (("--check",), '"--check" is not allowed: with this flag, nothing is built'),
        (("--call=outline",), '"--call=outline" is not allowed: with this flag, nothing is built'),
        (("--pull", "."), '"." is not a flag; for the build context, use the key context'),
        (("--build-arg",), "--build-arg has no value"),
        (
            ("--build-context skills=./skills",),
            (
                '"--build-context skills=./skills" is one word: write "--build-context",'
                ' "skills=./skills"'
            ),
        ),
        (
            ("--build-context", "skills"),
            '"--build-context skills" must be --build-context NAME=VALUE',
        ),
        (
            ("--builder=ci",),
            (
                '"--builder ci" may be a builder that cannot see the images in needs; remove it to'
                " use the engine's own builder"
            ),
        ),
        (
            ("--build-context=base=./x",),
            '"--build-context base=..." hides the image "base" in needs: keep one of them',
        ),
    ],
)
def test_a_flag_that_cannot_work_is_a_problem(options: tuple[str, ...], problem: str) -> None:
    image = Image(name="api", needs=("base",), build_options=options)

    assert list(option_problems(image)) == [f"[images.api] build_options: {problem}"]


def test_what_docker_takes_is_no_problem() -> None:
    options = (
        *("--secret", "id=ca,src=ca.pem", "--ssh=default", "--cache-from", "type=gha", "--pull"),
        *(
            "--platform",
            "linux/amd64",
            "--build-arg",
            "A",
            "--label",
            "a=b",
            "--add-host=a:1.2.3.4",
        ),
    )

    assert list(option_problems(Image(name="api", build_options=options))) == []

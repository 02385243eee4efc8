"""What a Dockerfile starts from is found, whatever the way in which it is written."""

from __future__ import annotations

from textwrap import dedent

import pytest

from pytest_kindinfra.images.dockerfile import (
    has_own_syntax,
    instructions,
    platform_arguments,
    references,
)


def found(text: str, **build_args: str) -> tuple[str, ...]:
    return references(dedent(text), build_args=build_args, named=())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("FROM alpine:3", ["alpine:3"], id="one"),
        pytest.param("from alpine", ["alpine"], id="small letters"),
        pytest.param("FROM scratch", [], id="nothing"),
        pytest.param("FROM --platform=$BUILDPLATFORM golang AS build", ["golang"], id="a platform"),
        pytest.param("FROM golang\nFROM alpine\nFROM golang", ["golang", "alpine"], id="each once"),
        pytest.param("FROM golang AS Build\nFROM build", ["golang"], id="a stage above"),
        pytest.param("FROM golang AS golang", ["golang"], id="a stage called like its image"),
        pytest.param("FROM a AS b\nFROM b AS c\nFROM c", ["a"], id="stage upon stage"),
        pytest.param("FROM a\nCOPY --from=busybox /bin /bin", ["a", "busybox"], id="copied from"),
        pytest.param("FROM a AS x\nCOPY --from=x / /", ["a"], id="copied from a stage"),
        pytest.param("FROM a\nCOPY --from=0 / /", ["a"], id="copied from a stage by number"),
        pytest.param(
            "FROM a\nCOPY --chown=1 --from=b --link / /", ["a", "b"], id="among other flags"
        ),
        pytest.param("FROM a\nRUN --mount=type=bind,from=b,target=/b ls", ["a", "b"], id="mounted"),
        pytest.param("FROM a\nRUN --mount=from=b ls", ["a", "b"], id="mounted, no type"),
        pytest.param("FROM a\nONBUILD COPY --from=b / /", ["a", "b"], id="on build"),
        pytest.param("FROM a@sha256:1f", ["a@sha256:1f"], id="a digest"),
        pytest.param('FROM "a:1"', ["a:1"], id="quoted"),
        pytest.param("  FROM a", ["a"], id="moved right"),
        pytest.param("FROM a\r\nRUN x\r\n", ["a"], id="lines of Windows"),
        pytest.param("FROM\ta", ["a"], id="a tab"),
        pytest.param("FROM \t a\tAS\tx\nFROM x", ["a"], id="tabs and blanks"),
        pytest.param("FROM\va", ["a"], id="a vertical tab"),
        pytest.param("\ufeffFROM a", ["a"], id="a byte order mark"),
        pytest.param("\ufeff# escape=`\r\nFROM `\r\n a", ["a"], id="a mark before a directive"),
        pytest.param("FR\\\nOM a", ["a"], id="a keyword in two lines"),
        pytest.param("FROM a\nCOPY\t--link\t--from=b / /", ["a", "b"], id="tabs between flags"),
        pytest.param('FROM a\nCOPY --from="b" / /', ["a", "b"], id="a quoted flag"),
        pytest.param(
            "FROM a\nRUN --mount=type=cache,target=/c --mount=type=bind,source=/,from=b ls",
            ["a", "b"],
            id="the second mount",
        ),
        pytest.param('FROM a\nRUN --mount=type=bind,"from=b",target=/x ls', ["a", "b"], id="csv"),
        pytest.param("FROM a\nRUN --mount=type=bind,FROM=b ls", ["a", "b"], id="a key in capitals"),
        pytest.param("", [], id="empty"),
        pytest.param("FROM", [""], id="unfinished"),
    ],
)
def test_images_are_found(text: str, expected: list[str]) -> None:
    assert list(found(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# FROM b\nFROM a", id="a comment"),
        pytest.param("FROM a\n# COPY --from=b / /", id="a copy in a comment"),
        pytest.param("FROM \\\n  a \\\n  AS x\nFROM x", id="continued"),
        pytest.param("FROM \\\n# a remark\n\n  a", id="continued past a comment"),
        pytest.param("FROM a\nRUN echo \\\nFROM b", id="the second line of a command"),
        pytest.param("FROM a\nRUN <<EOF\nFROM b\nEOF\n", id="a heredoc"),
        pytest.param("FROM a\nRUN python3 <<-'END'\n\tfrom b import c\n\tEND\n", id="indented"),
        pytest.param("FROM a\nCOPY <<A <<B /\nFROM b\nA\nFROM c\nB\n", id="two heredocs"),
        pytest.param("# escape=`\nFROM `\n  a\nRUN dir c:\\\nRUN x", id="another escape"),
        pytest.param("FROM a\nRUN echo 'FROM b'", id="quoted text"),
        pytest.param("FROM a\nRUN uvx --from=ruff ruff check", id="a program's own flag"),
        pytest.param(
            "FROM a\nRUN --network=none pip --mount=from=b", id="a flag after the command"
        ),
        pytest.param("FROM a\nENV X='--from=b'", id="a flag where there are none"),
        pytest.param("FROM a\nRUN x \\\\\nRUN <<EOF\nFROM b\nEOF", id="an escaped escape"),
        pytest.param("FROM a\nRUN cat <<'E.F' <<\"G H\"\nFROM b\nE.F\nFROM c\nG H", id="odd ends"),
        pytest.param("FROM a\nRUN sh << EOF\nFROM b\nEOF", id="a blank before the end's name"),
        pytest.param("FROM a\nRUN <<EOF\r\nFROM b\r\nEOF\r\n", id="a heredoc of Windows"),
        pytest.param("# a remark\n# escape=`\nFROM a\nRUN x \\\nFROM b", id="a late directive"),
        pytest.param("FROM a\nRUN x \\\n  # remark\n\nFROM b", id="a comment within a command"),
        pytest.param("FROM a\nLABEL x=1\u2028FROM b", id="a line for Python alone"),
    ],
)
def test_what_only_looks_like_an_image_is_none(text: str) -> None:
    assert list(found(text)) == ["a"]


def test_what_follows_a_heredoc_counts_again() -> None:
    text = """
        FROM a
        RUN <<EOF
        COPY --from=b / /
        EOF
        COPY --from=c / /
    """

    assert found(text) == ("a", "c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("ARG V=3\nFROM alpine:$V", "alpine:3", id="a default"),
        pytest.param("ARG V=3\nFROM alpine:${V}", "alpine:3", id="in braces"),
        pytest.param('ARG BASE="alpine:3"\nFROM $BASE', "alpine:3", id="a quoted default"),
        pytest.param("ARG A=alpine B=3\nFROM $A:$B", "alpine:3", id="two in one line"),
        pytest.param("ARG V=3\nARG BASE=alpine:$V\nFROM $BASE", "alpine:3", id="one upon another"),
        pytest.param("ARG V\nFROM alpine:${V:-3}", "alpine:3", id="a default where it is used"),
        pytest.param("ARG GIVEN=1\nFROM alpine:$GIVEN", "alpine:given", id="the build's own wins"),
        pytest.param("ARG GIVEN\nFROM alpine:$GIVEN", "alpine:given", id="without a default"),
        pytest.param("ARG\tV=3\nFROM alpine:$V", "alpine:3", id="a tab"),
        pytest.param("ARG A='$V'\nFROM ${A:-x}y", "$Vy", id="single quotes"),
        pytest.param("ARG V=3-x\nFROM alpine:${V%-*}", "alpine:3", id="a suffix cut off"),
        pytest.param("ARG A\nFROM ${A:-${B:-alpine:3}}", "alpine:3", id="nested defaults"),
        pytest.param("FROM alpine:${GIVEN:-3}", "alpine:3", id="one that no ARG names"),
        pytest.param(
            "FROM alpine:3 AS x\nARG GIVEN=1\nARG V=4\nFROM x", "alpine:3", id="within a stage"
        ),
    ],
)
def test_arguments_are_filled_in(text: str, expected: str) -> None:
    assert found(text, GIVEN="given") == (expected,)


def test_a_named_context_takes_the_place_of_an_image() -> None:
    text = "FROM base\nCOPY --from=tools / /"

    assert references(text, build_args={}, named={"base": "localhost/base:1"}) == ("tools",)


def test_instructions_come_on_one_line_each() -> None:
    text = "FROM a\nrun one \\\n  two\n\n# no\nENV A=1"

    assert list(instructions(text)) == [("FROM", "a"), ("RUN", "one   two"), ("ENV", "A=1")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("FROM a:${TARGETARCH}", "a:arm64", id="without ARG"),
        pytest.param("ARG TARGETARCH\nFROM a:${TARGETARCH}", "a:arm64", id="with ARG"),
        pytest.param("ARG TARGETARCH=x\nFROM a:${TARGETARCH}", "a:x", id="with a default"),
        pytest.param("FROM a:$TARGETOS-$BUILDARCH$TARGETVARIANT", "a:linux-amd64v8", id="others"),
        pytest.param("FROM --platform=$BUILDPLATFORM a", "a", id="as a flag"),
    ],
)
def test_buildkits_own_arguments_are_filled_in(text: str, expected: str) -> None:
    platform = platform_arguments("linux/arm64/v8", built_on="linux/amd64")

    assert references(text, build_args={}, named=(), platform=platform) == (expected,)


def test_a_build_argument_goes_before_buildkits_own() -> None:
    platform = platform_arguments("linux/amd64", built_on="linux/amd64")
    given = {"TARGETARCH": "mine"}

    assert references("FROM a:$TARGETARCH", build_args=given, named=(), platform=platform) == (
        "a:mine",
    )


@pytest.mark.parametrize("written", ["base", "base:latest", "docker.io/library/base"])
def test_a_named_context_is_meant_by_each_form_of_its_name(written: str) -> None:
    assert references(f"FROM {written}", build_args={}, named=["base"]) == ()


@pytest.mark.parametrize(
    ("syntax", "own"),
    [
        ("# syntax=docker/dockerfile:1", False),
        ("# syntax = docker/dockerfile:1.7-labs", False),
        ("#syntax=docker.io/docker/dockerfile@sha256:1f", False),
        ("# syntax=example/other:1", True),
        ("FROM a", False),
    ],
)
def test_a_language_of_its_own_is_known(syntax: str, own: bool) -> None:  # noqa: FBT001
    assert has_own_syntax(syntax) is own

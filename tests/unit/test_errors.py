"""Messages say what failed, how to try it, what it printed, and what to do."""

from __future__ import annotations

import inspect

import pytest

from pytest_kindinfra import errors
from pytest_kindinfra.errors import (
    CommandError,
    DeclarationError,
    KindInfraError,
    last_lines,
    shortened,
)


def test_a_failed_command_can_be_pasted() -> None:
    error = CommandError(
        ["docker", "build", "a b", "$HOME"],
        exit_code=2,
        output="one\n\n  two\n",
        what='building image "api"',
    )

    assert str(error) == (
        "building image \"api\": exit code 2\n  $ docker build 'a b' '$HOME'\n    one\n      two"
    )


def test_a_command_that_was_too_late_says_so() -> None:
    error = CommandError(["sleep", "60"], exit_code=None, output="")

    assert (
        str(error)
        == "a command failed: stopped, since it did not end within its time limit\n  $ sleep 60"
    )


@pytest.mark.parametrize(
    ("problems", "text"),
    [
        pytest.param(
            ["a is wrong"],
            "kindinfra: 1 problem in the declaration:\n  - a is wrong",
            id="one",
        ),
        pytest.param(
            ["a is wrong", "b too"],
            "kindinfra: 2 problems in the declaration:\n  - a is wrong\n  - b too",
            id="two",
        ),
    ],
)
def test_all_problems_of_a_declaration_come_at_once(problems: list[str], text: str) -> None:
    error = DeclarationError(iter(problems))

    assert str(error) == text
    assert error.problems == tuple(problems)


def test_every_error_of_ours_has_one_root() -> None:
    found = [one for _, one in inspect.getmembers(errors, inspect.isclass)]

    assert found
    assert [one for one in found if not issubclass(one, KindInfraError)] == []


def test_empty_lines_are_no_last_lines() -> None:
    assert last_lines("a\n\nb\n  \nc\n\n", 2) == "b\nc"


@pytest.mark.parametrize(
    ("lines", "first", "kept"),
    [
        pytest.param(5, 2, "1 2 3 4 5", id="all fit"),
        pytest.param(4, 2, "1 2 4 5", id="the beginning and the end"),
        pytest.param(3, 6, "1 2 3", id="the beginning alone"),
        pytest.param(2, 0, "4 5", id="the end alone"),
    ],
)
def test_a_long_text_keeps_its_first_and_its_last_lines(lines: int, first: int, kept: str) -> None:
    assert shortened("1\n2\n\n3\n4\n5\n", lines=lines, first=first) == kept.replace(" ", "\n")

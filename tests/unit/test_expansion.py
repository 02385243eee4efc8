"""Variables in texts: what they become, and what is wrong with them."""

from __future__ import annotations

import pytest

from pytest_kindinfra.images.expansion import expand, expand_dockerfile_word

VARIABLES = {"SET": "set", "EMPTY": "", "B": "b", "V": "1.2.3-slim"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$SET", "set"),
        ("${SET}", "set"),
        ("a-${SET}-b", "a-set-b"),
        ("${SET:-other}", "set"),
        ("$EMPTY", ""),
        ("${UNSET:-other}", "other"),
        ("${UNSET-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY-other}", ""),
        ("${UNSET:-}", ""),
        ("${UNSET:-${B}}", "b"),
        ("${UNSET:-${GONE:-a}-${B}}", "a-b"),
        ("${SET:-${GONE}}", "set"),
        ("${SET:+instead}", "instead"),
        ("${UNSET:+instead}", ""),
        ("${EMPTY+instead}", "instead"),
        ("${EMPTY:+instead}", ""),
        ("${SET:?must be there}", "set"),
        ("${EMPTY?must be there}", ""),
        ("plain", "plain"),
        ("5 $", "5 $"),
        ("cost$5", "cost$5"),
        ("$$SET", "$SET"),
        ("$${SET}", "${SET}"),
        ("$$2b$$12$$abc", "$2b$12$abc"),
        ("'$SET'", "'set'"),
        ("\\$SET", "\\set"),
    ],
)
def test_variables_of_a_declaration_are_replaced(value: str, expected: str) -> None:
    found = expand(value, VARIABLES)

    assert (found.text, found.problems) == (expected, ())


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("${NPM_TOKEN}", 'variable "NPM_TOKEN" is not set'),
        ("$NPM_TOKEN", 'variable "NPM_TOKEN" is not set'),
        ("$2b$12$abc", 'variable "abc" is not set'),
        ("${A:-${B2}}", 'variable "B2" is not set'),
        ("${A:?say which}", 'variable "A": say which'),
        ("${EMPTY:?}", 'variable "EMPTY": is empty'),
        ("${SET", '"${SET" is no variable'),
        ("${SET:-x", '"${SET:-x" is no variable'),
        ("${}", '"${}" is no variable'),
        ("${SET!}", '"${SET!}" is no variable'),
        ("${SET:}", '"${SET:}" is no variable'),
    ],
)
def test_what_cannot_be_replaced_is_a_problem(value: str, problem: str) -> None:
    assert expand(value, VARIABLES).problems == (problem,)


def test_all_names_are_known_those_in_defaults_too() -> None:
    assert expand("$SET ${A:-${B:-$C}} $$D", VARIABLES).names == ("SET", "A", "B", "C")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("alpine:$V", "alpine:1.2.3-slim"),
        ("alpine:${UNSET}", "alpine:"),
        ("$5$@", ""),
        ('"a:${SET}"', "a:set"),
        ("'a:${SET}'", "a:${SET}"),
        ("a\\$SET", "a$SET"),
        ("${UNSET:-${B}}", "b"),
        ("${V%-*}", "1.2.3"),
        ("${V%%.*}", "1"),
        ("${V#*.}", "2.3-slim"),
        ("${V##*.}", "3-slim"),
        ("${V/./_}", "1_2.3-slim"),
        ("${V//./_}", "1_2_3-slim"),
    ],
)
def test_a_word_of_a_dockerfile_is_read_as_buildkit_reads_it(word: str, expected: str) -> None:
    assert expand_dockerfile_word(word, VARIABLES, escape="\\") == expected

"""Tags by a template: every field, and nothing that is no tag."""

from __future__ import annotations

import re

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.tags import Circumstances, make_tag
from pytest_kindinfra.plan.options import TAG_FIELDS, find_option

AROUND = Circumstances(user="jordi", commit="abc123f" + "0" * 33, time=1734278400, random="5a" * 8)


def tag(template: str, around: Circumstances = AROUND) -> str:
    return make_tag(template, image="api", content="c0ffee", around=around)


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ("{service}-{user}-{git}-{time}", "api-jordi-abc123f-1734278400"),
        ("{content}", "c0ffee"),
        ("{service}-{random}", "api-5a5a5a5a5a5a5a5a"),
        ("ci-1f-7", "ci-1f-7"),
        ("{git}{git}", "abc123fabc123f"),
    ],
)
def test_fields_become_what_they_stand_for(template: str, made: str) -> None:
    assert find_option("tag").parse(template) == template
    assert tag(template) == made


def test_the_form_of_old_scripts_is_matched() -> None:
    assert re.fullmatch(
        r"[a-z]+-([\w]+)-([0-9a-f]{7})-(\d{10})", tag("{service}-{user}-{git}-{time}")
    )


def test_a_user_whose_name_no_tag_can_hold_gets_one_that_it_can() -> None:
    around = Circumstances(user="DOM\\jörg x", commit=None, time=1, random="0")

    assert tag("{user}", around) == "DOM-j-rg-x"


def test_without_git_the_field_says_so() -> None:
    around = Circumstances(user="x", commit=None, time=1, random="0")

    assert tag("{service}-{git}", around) == "api-nogit"


@pytest.mark.parametrize(
    "template",
    [
        "{servise}",
        "{}",
        "{service",
        "service}",
        "a/b",
        "a:b",
        "",
        "-a",
        ".a",
        "ä",
        "x" * 129,
        "a\n",
    ],
)
def test_what_makes_no_tag_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="makes no tag"):
        find_option("tag").parse(template)


def test_every_field_can_be_used() -> None:
    assert tag("_".join(f"{{{field}}}" for field in TAG_FIELDS)).count("_") == len(TAG_FIELDS) - 1


def test_one_that_becomes_too_long_is_named() -> None:
    with pytest.raises(KindInfraError) as caught:
        make_tag("{service}", image="a" * 129, content="1", around=AROUND)

    assert str(caught.value) == (
        f'image "{"a" * 129}": the template "{{service}}" makes "{"a" * 129}", which is no tag\n'
        "To fix: a shorter template; a tag has 128 characters at most"
    )

"""Words in braces within declared variables: which there are, and what they stand for."""

from __future__ import annotations

import pytest

from pytest_kindinfra.plan.checks import Word, env_problems, fill_words, words


def test_words_are_found_and_filled_in() -> None:
    template = "{url:api}/v1?k={port:api:metrics}&c={kubeconfig}{ not } ${HOME} {}"

    assert words(template) == [
        Word("url", "api"), Word("port", "api", "metrics"), Word("kubeconfig")
    ]  # fmt: skip
    assert fill_words(template, lambda word: f"<{word.attribute}>") == (
        "<url>/v1?k=<port>&c=<kubeconfig>{ not } ${HOME} {}"
    )


@pytest.mark.parametrize(
    ("name", "template", "problem"),
    [
        ("API-URL", "x", 'env: "API-URL" cannot be a variable\'s name'),
        ("A", "{urls:api}", 'env.A: {urls} stands for nothing; did you mean "url"?'),
        ("A", "{url}", "env.A: {url} needs a service"),
        ("A", "{namespace:api}", "env.A: {namespace} is about no service"),
    ],
)
def test_mistakes_are_told(name: str, template: str, problem: str) -> None:
    assert list(env_problems([(name, template)])) == [problem]


def test_what_is_right_is_no_problem() -> None:
    right = {"API_URL": "{url:api}", "_A1": "{host:api}:{port:api:x}", "K": "{kubeconfig}", "E": ""}

    assert list(env_problems(right.items())) == []

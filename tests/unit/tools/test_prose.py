"""The check of wording finds retired phrases in prose, and lets code alone."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
RULES = {
    "retired": [{"phrase": "goes? before", "instead": "overrides"}],
    "limits": {"longest_sentence": 8},
}


def load() -> Any:
    spec = importlib.util.spec_from_file_location("prose", ROOT / "tools" / "prose" / "prose.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["prose"] = module
    spec.loader.exec_module(module)
    return module


prose = load()


def complaints(text: str, kind: str = "markdown") -> list[tuple[int, str]]:
    return list(prose.complaints(prose.READERS[kind](text), RULES))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("The option\ngoes before it.", id="a paragraph"),
        pytest.param("* first\n* it goes before", id="an item"),
        pytest.param("| a | b |\n| c | It goes before |", id="a cell"),
    ],
)
def test_a_retired_phrase_is_found_with_its_line(text: str) -> None:
    assert complaints(text) == [(2, '"goes before": write overrides')]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("Write `goes before` never.", id="in code"),
        pytest.param("```text\nit goes before\n```\n", id="in a block"),
        pytest.param("It foregoes beforehand.", id="in other words"),
        pytest.param("[x](goes-before.md)", id="in an address"),
    ],
)
def test_code_and_addresses_are_let_alone(text: str) -> None:
    assert complaints(text) == []


def test_a_long_sentence_is_found_and_two_short_ones_are_not() -> None:
    assert complaints("One two three four five. Six seven eight nine ten.") == []
    assert complaints("One two three four five six seven eight nine.") == [
        (1, "a sentence of 9 words: One two three four five six ...")
    ]


def test_docstrings_and_comments_of_python_are_read() -> None:
    text = '"""It goes before."""\n\nX = 1  # this goes before\n'

    assert [line for line, _ in complaints(text, "python")] == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"""Do it.\n\n    Args:\n        beside: A list.\n    """', id="an argument"),
        pytest.param('X = "goesbefore"', id="a string of one word"),
    ],
)
def test_names_in_python_are_let_alone(text: str) -> None:
    rules = {**RULES, "retired": [{"phrase": "beside|goesbefore", "instead": "overrides"}]}

    assert list(prose.complaints(prose.READERS["python"](text), rules)) == []


def test_figures_count_words_sentences_and_passive_verbs_and_leave_out_single_words() -> None:
    found = prose.figures(prose.markdown("The image is built. You run it now.\n\n| a b | c |"))

    assert (found.words, found.sentences, found.long, found.passive) == (8, 2, 0, 1)


def test_no_text_of_the_project_has_a_retired_phrase(capsys: pytest.CaptureFixture[str]) -> None:
    assert (prose.check(), capsys.readouterr().out) == (0, "")


def test_the_texts_of_the_project_are_among_those_that_are_checked() -> None:
    import tomllib

    rules = tomllib.loads((ROOT / "tools" / "prose" / "words.toml").read_text("utf-8"))
    names = {path.relative_to(ROOT).as_posix() for _, path in prose.files(rules)}

    pages = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert pages | {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= names

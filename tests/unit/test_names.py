"""Names in the code are the words of the field: CONTRIBUTING has the rule, this has the list."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_kindinfra

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(pytest_kindinfra.__file__).parent
RETIRED = {
    "beat": "heartbeat",
    "held": "cleanup, deferred or acquired",
    "ledger": "deployed state",
    "life": "a noun for what it holds",
    "loss": "node watch",
    "lost": "a noun for what is gone",
    "ours": "owned",
    "shelf": "a noun for what it holds",
    "standing": "observed",
    "taker": "node",
    "takeover": "reuse",
    "takers": "nodes",
    "taking": "reuse",
    "told": "message",
    "workshop": "a noun for what it holds",
}
"""Words that no name in the code has, each with what to write instead."""

ALLOWED = {"lost", "_lost", "NodeLost"}
"""Names with a retired word where it is the usual name of a state."""


@cache
def trees() -> dict[str, ast.Module]:
    return {
        str(source.relative_to(PACKAGE)): ast.parse(source.read_bytes())
        for source in sorted(PACKAGE.rglob("*.py"))
    }


def names_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.arg():
                yield node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr


def words_of(name: str) -> set[str]:
    spaced = "".join(f"_{letter}" if letter.isupper() else letter for letter in name)
    return {*spaced.lower().split("_"), *name.lower().split("_")}


@pytest.mark.parametrize("module", trees())
def test_no_name_has_a_retired_word(module: str) -> None:
    names = {name for name in names_in(trees()[module]) if name not in ALLOWED}

    assert {name: word for name in names for word in words_of(name) & RETIRED.keys()} == {}


def test_no_two_public_classes_have_one_name() -> None:
    classes = Counter(
        node.name
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )

    assert [name for name, count in classes.items() if count > 1] == []

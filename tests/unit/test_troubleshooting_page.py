"""The page on troubleshooting quotes messages that the code has, and leaves out no kind of them."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import pytest_kindinfra
from pytest_kindinfra import errors
from pytest_kindinfra.kube.reasons import PULL_FAILURES, REASONS, pull_failure

PACKAGE = Path(pytest_kindinfra.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "troubleshooting.md").read_text("utf-8")
ENTRIES = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
MESSAGES = [re.findall(r"`([^`]+)`", entry.partition("\n")[0])[0] for entry in ENTRIES]

FROM_OTHERS = {
    "error setting rlimit type 7": "podman's",
    "too many open files": "of programs in pods",
    "unrecognized arguments: -n": "pytest's",
}
"""Messages that the package does not print, and whose they are."""

VALUES = re.compile(
    r"\.\.\.|\b(?:ADDRESS|CAUSE|CLUSTER|DRIVER|ENGINE|FILE|FOLDER|GROUP|HOOK|HOST|IMAGE|KEY|KIND"
    r"|LABELS|LIMIT|LIST|NAME|NAMESPACE|N|OBJECT|OPTION|OTHER|PLACE|PORT|REASON|RUN|SECONDS|SERVICE"
    r"|SUBJECT|TEXT|THIRD|TYPE|VALUE|VERSION)\b"
)
"""What stands for a value in a quoted message."""

SEVERAL = 3
"""Words that make a message one of its own."""

ANY = "\0"
UNTOLD = {
    "KindInfraError": "the root of all",
    "OnceError": "has the text of the test's own exception",
    "NeedFailedError": "has the text of what failed",
}
"""Errors without a text of their own."""

TOLD_BY = {
    "DeclarationError": "kindinfra: ... in the declaration:",
    "ToolMissingError": '"NAME" is not on PATH',
    "NothingHereError": '"NAME" is not on PATH',
    "EngineError": "the Docker engine does not answer: REASON",
    "CommandError": 'building image "NAME"',
    "ClusterError": 'creating cluster "NAME"',
    "ClusterEndedError": 'kind node "NAME" of cluster "CLUSTER" ended during the run (REASON)',
    "ImageMissingError": 'image "NAME": the prebuilt "IMAGE" is not in the engine',
    "PortTakenError": "host port PORT is busy",
    "NotReadyError": "OBJECT cannot become ready: REASON",
    "CancelledError": "the run is ending",
    "ProvisionerDiedError": "the process that brings the stack up ended without a result (run NAME)",  # noqa: E501
    "StateError": 'the state file "NAME" was damaged and set aside',
}
"""Each error to an entry that tells of it."""


@cache
def templates() -> tuple[str, ...]:
    """Return the texts in the package's code, with a mark for each value; no docstrings."""
    return tuple(
        text
        for source in PACKAGE.rglob("*.py")
        for text in texts_of(ast.parse(source.read_bytes()))
    )


def texts_of(tree: ast.AST) -> list[str]:
    nodes = list(ast.walk(tree))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    found = [text_of(node) for node in nodes if id(node) not in docstrings | parts]
    return [text for text in found if text]


def text_of(node: ast.AST) -> str:
    """Return a text with a mark for each value; empty for any other node."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(one) or ANY for one in node.values)
    return ""


def pattern_of(message: str) -> re.Pattern[str]:
    """Return what matches a text of the code that has the fixed parts of a message, in order."""
    fixed = [re.escape(part) for part in VALUES.split(message) if part]
    return re.compile(".*?".join(fixed), re.DOTALL)


def is_printed(message: str) -> bool:
    return any(pattern_of(message).search(text) for text in templates())


def says_what_to_do(text: str) -> bool:
    """Whether a text is a message with its own words and a remedy, not a frame for others."""
    begin, found, _ = text.partition("To fix:")
    return bool(found) and len(re.findall(r"[a-z]{2,}", begin)) >= SEVERAL


@pytest.mark.parametrize("message", [one for one in MESSAGES if one not in FROM_OTHERS])
def test_a_quoted_message_is_one_that_the_code_prints(message: str) -> None:
    assert is_printed(message)


def test_every_message_that_says_what_to_do_has_an_entry() -> None:
    patterns = [pattern_of(message) for message in MESSAGES]

    missing = [
        text.replace(ANY, "...")
        for text in templates()
        if says_what_to_do(text) and not any(pattern.search(text) for pattern in patterns)
    ]
    assert missing == []


def test_a_message_that_no_code_prints_is_noticed() -> None:
    assert not is_printed('service "NAME" is nowhere to be seen')


@pytest.mark.parametrize("entry", ENTRIES, ids=MESSAGES)
def test_an_entry_has_cause_and_fix(entry: str) -> None:
    assert "\n* **Cause.** " in entry
    assert "\n* **Fix.** " in entry


def test_no_message_has_two_entries() -> None:
    assert len(MESSAGES) == len(set(MESSAGES))


def test_every_error_of_the_package_has_an_entry() -> None:
    known = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.KindInfraError)
    }

    assert known - UNTOLD.keys() == TOLD_BY.keys()
    assert set(TOLD_BY.values()) <= set(MESSAGES)


def test_every_kind_of_failed_pull_has_a_row_with_a_message_of_it() -> None:
    rows = re.findall(r"^\| ([a-z ]+) \| `([^`]+)` \|", PAGE, re.MULTILINE)

    assert [kind for kind, _ in rows] == [failure.kind for failure in PULL_FAILURES]
    assert [pull_failure(message).kind for _, message in rows] == [kind for kind, _ in rows]


def test_every_reason_with_a_remedy_has_a_row() -> None:
    table = PAGE.partition("| reason | cause | fix |")[2].partition("\n\n")[0]

    remedied = {word for word, reason in REASONS.items() if reason.fix}
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == remedied

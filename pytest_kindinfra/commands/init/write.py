"""Write what `kindinfra init` drew up: the declaration, a first test, a line of .gitignore.

Existing files are never overwritten.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_kindinfra.commands.images import given_options
from pytest_kindinfra.commands.init.draft import draft_text
from pytest_kindinfra.commands.init.draw import draw_up
from pytest_kindinfra.errors import DeclarationError, KindInfraError
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.files import DECLARATION_FILE, load_tables
from pytest_kindinfra.run.prepare import Door, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.commands.init.draft import Draft, DraftService


_IGNORED = ".kindinfra/"


_TEST = "test_kindinfra.py"


_PROBLEM = re.compile(r"\[?(images|services)\.([\w-]+)|\b(image|service) \"([^\"]+)\"")


def init(folder: Path) -> Iterator[str]:
    """Write the files for a folder, and yield a line for each.

    Raises:
        KindInfraError: There is a declaration already.
    """
    if load_tables(folder):
        msg = f"{folder} has a declaration already\nTo fix: nothing; `kindinfra plan` shows it"
        raise KindInfraError(msg)
    draft = draw_up(folder)
    for path, text in draft.files.items():
        yield _write(folder, path, text)
    draft = _proved(folder, draft)
    yield _write(folder, DECLARATION_FILE, draft_text(draft))
    tests = next((one for one in ("e2e", "tests/e2e", "tests") if (folder / one).is_dir()), "e2e")
    yield _write(folder, f"{tests}/{_TEST}", _test_text(draft))
    yield _ignore(folder)
    for title, why in draft.off.items():
        yield f"commented out: [{title}]: {why.splitlines()[0]}"
    yield "next: read kindinfra.toml, kindinfra plan, then pytest"


def _write(folder: Path, path: str, text: str) -> str:
    with _writing(path):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            with (folder / path).open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            return f"not changed: {path}"
    return f"wrote {path}"


@contextmanager
def _writing(path: str) -> Iterator[None]:
    """Raise what keeps a file from being written as an error that says so."""
    try:
        yield
    except OSError as error:
        why = error.strerror
        if isinstance(error, FileExistsError | NotADirectoryError):
            why = f'"{PurePath(path).parent}" is no folder'
        msg = (
            f'"{path}" cannot be written: {why}\n'
            "To fix: make it writable, remove a kindinfra.toml that init wrote, and run it again"
        )
        raise KindInfraError(msg) from None


def _ignore(folder: Path) -> str:
    file = folder / ".gitignore"
    with _writing(file.name):
        text = file.read_text("utf-8") if file.exists() else ""
        if {line.strip().strip("/") for line in text.splitlines()} & {".kindinfra"}:
            return "not changed: .gitignore"
        start = "" if not text or text.endswith("\n") else "\n"
        with file.open("a", encoding="utf-8") as stream:
            stream.write(f"{start}{_IGNORED}\n")
    return f"added {_IGNORED} to .gitignore"


def _proved(folder: Path, draft: Draft) -> Draft:
    """Return the draft with what a plan has problems with commented out, each with its problem."""
    for _ in range(len(draft.images) + len(draft.services) + 1):
        problems = _problems(folder, draft_text(draft))
        named = [(title, problem) for problem in problems if (title := _title(problem, draft))]
        if not named:
            return draft
        for title, problem in named:
            draft = draft.without(title, problem)
    return draft


def _problems(folder: Path, text: str) -> tuple[str, ...]:
    """Return what `kindinfra plan` would say of a declaration."""
    try:
        tables = tomllib.loads(text)
        declaration = parse_declaration(tables, folder=folder, source=DECLARATION_FILE)
        prepare(
            declaration,
            {service.name: ("init",) for service in declaration.services},
            option=given_options({}),
            door=Door(purpose="plan", run_id="RUN_ID", unused_images=True),
        )
    except DeclarationError as error:
        return tuple(error.problems)
    except KindInfraError:  # a tool is missing, which is no fault of the declaration
        return ()
    return ()


def _title(problem: str, draft: Draft) -> str:
    """Return the table that a problem is about, if it is one of the draft's that counts."""
    there = {f"images.{one.name}" for one in draft.images}
    there |= {f"services.{one.name}" for one in draft.services}
    for found in _PROBLEM.finditer(problem):
        kind, name = (found[1], found[2]) if found[1] else (f"{found[3]}s", found[4])
        title = f"{kind}.{name}"
        if title in there and title not in draft.off:
            return title
    return ""


_TEST_HEAD = '''"""The services answer: written by `kindinfra init`, to begin with."""

from __future__ import annotations
'''


def _test_text(draft: Draft) -> str:
    """Return a test of the last service that has an endpoint, an http one if there is one."""
    services = [one for one in reversed(draft.live) if one.endpoints]
    http = [one for one in services if _http(one)]
    if http:
        name, (endpoint, path) = http[0].name, _http(http[0]) or ("", "")
        return _TEST_HEAD + _HTTP_TEST.format(
            name=name, endpoint=endpoint, path=path, function=_function(name)
        )
    if services:
        name, endpoint = services[0].name, next(iter(services[0].endpoints))
        return _TEST_HEAD + _TCP_TEST.format(name=name, endpoint=endpoint, function=_function(name))
    name = draft.live[-1].name if draft.live else ""
    if name:
        return _TEST_HEAD + _PLAIN_TEST.format(name=name, function=_function(name))
    return _TEST_HEAD + _NO_TEST


def _http(service: DraftService) -> tuple[str, str] | None:
    """Return the name and path of a service's http endpoint with a health path."""
    for name, keys in service.endpoints.items():
        if keys.get("scheme", "http") == "http" and keys.get("path"):
            return name, str(keys["path"])
    return None


def _function(name: str) -> str:
    return name.replace("-", "_")


_HTTP_TEST = """
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("{name}")
def test_{function}_answers(kindinfra: Stack) -> None:
    url = kindinfra.url("{name}", "{endpoint}")
    with urllib.request.urlopen(f"{{url}}{path}", timeout=10) as answer:
        assert answer.status == 200
"""


_TCP_TEST = """
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("{name}")
def test_{function}_accepts_connections(kindinfra: Stack) -> None:
    endpoint = kindinfra.endpoint("{name}", "{endpoint}")
    with socket.create_connection((endpoint.host, endpoint.port), timeout=10):
        pass
"""


_PLAIN_TEST = """
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Stack


@pytest.mark.kindinfra("{name}")
def test_{function}_gets_ready(kindinfra: Stack) -> None:
    assert kindinfra.kubeconfig.exists()
"""


_NO_TEST = """
# import pytest
#
#
# @pytest.mark.kindinfra("web")
# def test_web_answers(kindinfra):
#     assert kindinfra.url("web").startswith("http://")
"""

"""The documentation names what is there: options, keys, files; and its examples are sound."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.options import OPTIONS
from pytest_kindinfra.plan.tables import Table
from pytest_kindinfra.session.options import add_options

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
KNOWN_HOSTS = {
    "127.0.0.1",
    "docs.docker.com",
    "github.com",
    "keepachangelog.com",
    "kind.sigs.k8s.io",
    "kubernetes.io",
    "semver.org",
    "taplo.tamasfe.dev",
}
LONGEST_DECISION = 60
"""Lines that fill about a printed page."""

EVERY_TABLE = {
    "cluster": {},
    "images": {"x": {}},
    "services": {"x": {"endpoints": {"y": {}}, "helm": {}}},
    "options": {},
}
NOT_THERE_YET = "does not support yet"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
_URL = re.compile(r"https?://[^\s)`'\"<>]+")
_MACHINE = re.compile(r"(?<![\w.~-])/(root|home|tmp|work|mnt)\b")
_ADVERTISING = re.compile(
    r"\b(blazing\w*|seamless\w*|powerful\w*|effortless\w*|robust\w*|comprehensive\w*"
    r"|state-of-the-art|cutting-edge|world-class|production-ready|battle-tested)\b",
    re.IGNORECASE,
)


_NAMED_TEST = re.compile(r"`((?:unit|functional|e2e)/\w+\.py)::(?:\w+::)?(\w+)`")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def prose(page: Path) -> str:
    """Return the page without its blocks of code, in which `#` is no heading."""
    return _FENCE.sub("", page.read_text("utf-8"))


def blocks(page: Path, language: str) -> list[str]:
    found = _FENCE.findall(page.read_text("utf-8"))
    return [text for name, text in found if name == language]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    titles = [title.replace("`", "").lower() for title in _HEADING.findall(prose(page))]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


def sections(name: str) -> dict[str, str]:
    """Return the second-level sections of a page: the heading without backquotes to the text."""
    parts = re.split(r"^## (.+)\n", read(name), flags=re.MULTILINE)[1:]
    return {
        title.replace("`", ""): text for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def known_keys(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Return the keys that the parser asks for, by table; those it only refuses are left out."""
    asked: dict[str, set[str]] = {}
    raw = Table.raw

    def note(table: Table, key: str, default: Any = None) -> Any:
        place = re.sub(r"\.[xy]\b", ".NAME", table.place.strip("[]"))
        asked.setdefault(place, set()).add(key)
        return raw(table, key, default)

    monkeypatch.setattr(Table, "raw", note)
    problems_of(EVERY_TABLE)
    monkeypatch.undo()
    services = asked["services.NAME"]
    services -= {key for key in services if is_refused(key)}
    return asked


def is_refused(key: str) -> bool:
    problems = problems_of({"services": {"x": {"manifests": ["a.yaml"], key: "x"}}})
    return any(NOT_THERE_YET in problem for problem in problems)


def problems_of(tables: dict[str, Any]) -> tuple[str, ...]:
    try:
        parse_declaration(tables, folder=Path(), source="kindinfra.toml")
    except DeclarationError as error:
        return error.problems
    return ()


# -- options ---------------------------------------------------------------------------------------


def test_every_option_has_a_section_and_no_section_lacks_its_option() -> None:
    headings = [option.flag + f"={option.metavar}".rstrip("=") for option in OPTIONS]

    assert headings == list(sections("docs/options.md"))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_an_options_section_begins_with_its_help(option: Any) -> None:
    heading = option.flag + f"={option.metavar}".rstrip("=")

    assert sections("docs/options.md")[heading].startswith(f"\n*{option.help}.*\n")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_an_options_variable_and_key_are_in_the_table(option: Any) -> None:
    assert f"| `{option.variable}` | `{option.key}` |" in read("docs/options.md")


def test_the_help_that_is_documented_is_the_one_that_pytest_shows() -> None:
    parser = pytest.Parser(_ispytest=True)
    add_options(parser)
    (group,) = [one for one in parser._groups if one.name == "kindinfra"]  # noqa: SLF001

    assert {one.flag: one.help for one in OPTIONS} == {
        one.names()[0]: one.attrs()["help"] for one in group.options
    }


def test_the_readme_names_every_option() -> None:
    missing = [option.flag for option in OPTIONS if option.flag not in read("README.md")]

    assert missing == []


# -- the declaration -------------------------------------------------------------------------------


def test_every_key_of_the_declaration_has_a_row_and_every_row_is_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documented = {
        title.strip("[]"): set(_ROW.findall(text))
        for title, text in sections("docs/declaration.md").items()
    }
    known = known_keys(monkeypatch)

    assert known.pop("") == {"cluster", "images", "services", "env", "options"}
    assert {**known, "env": set(), "options": set()} == documented


def test_the_readmes_declaration_is_one() -> None:
    (text,) = blocks(ROOT / "README.md", "toml")

    declaration = parse_declaration(tomllib.loads(text), folder=Path(), source="README.md")

    assert [service.name for service in declaration.services] == ["redis", "web"]


@every_page
def test_toml_blocks_can_be_read(page: Path) -> None:
    for text in blocks(page, "toml"):
        tomllib.loads(text)


# -- all pages -------------------------------------------------------------------------------------


@every_page
def test_python_blocks_compile(page: Path) -> None:
    for number, text in enumerate(blocks(page, "python"), start=1):
        compile(text, f"{page.name}, block {number}", "exec")


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    assert list(dead_links(page)) == []


def dead_links(page: Path) -> Iterator[str]:
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@every_page
def test_urls_lead_to_known_hosts_only(page: Path) -> None:
    hosts = {urlsplit(url).hostname for url in _URL.findall(page.read_text("utf-8"))}

    assert hosts <= KNOWN_HOSTS


@every_page
def test_no_path_of_one_machine_is_named(page: Path) -> None:
    assert [match[0] for match in _MACHINE.finditer(page.read_text("utf-8"))] == []


@every_page
def test_nothing_is_praised(page: Path) -> None:
    assert _ADVERTISING.findall(page.read_text("utf-8")) == []


def test_no_two_decisions_have_one_number() -> None:
    numbers = [path.name.partition("-")[0] for path in DECISIONS]

    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("page", DECISIONS, ids=page_id)
def test_a_decision_says_what_why_at_what_cost_and_where_on_one_page(page: Path) -> None:
    text = page.read_text("utf-8")

    parts = ("**Decision.**", "**Why", "**What it costs.**", "**In the code.**")
    assert [part for part in parts if part not in text] == []
    assert text.startswith(f"# {page.name.partition('-')[0]} ")
    assert len(text.splitlines()) <= LONGEST_DECISION


def test_code_refers_to_pages_that_are_there() -> None:
    named = {
        name
        for path in ROOT.glob("pytest_kindinfra/**/*.py")
        for name in re.findall(r"(?<![\w/.])docs/[\w/.-]*\w", path.read_text("utf-8"))
    }

    missing = [name for name in named if not list(ROOT.glob(f"{name}*"))]

    assert missing == []


NAMED_TESTS = _NAMED_TEST.findall(read("docs/crash-safety.md"))


def test_the_page_on_crash_safety_names_tests() -> None:
    assert len(NAMED_TESTS) > 30


@pytest.mark.parametrize(("file", "name"), NAMED_TESTS)
def test_the_tests_that_show_crash_safety_are_there(file: str, name: str) -> None:
    text = read(f"tests/{file}")

    there = rf"^ *(?:def|class) {name}\b|^{name} ="
    assert re.search(there, text, re.MULTILINE), f"{file} has no {name}"

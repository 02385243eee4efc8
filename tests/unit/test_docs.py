"""The documentation names what is there: options, keys, files; and its examples are sound."""

from __future__ import annotations

import json
import re
import tomllib
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import yaml

from pytest_kindinfra.commands.arguments import make_parser
from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.options import OPTIONS, read_settings
from pytest_kindinfra.plan.tables import Table
from pytest_kindinfra.session.options import add_options

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
KNOWN_HOSTS = {
    "127.0.0.1",
    "charts.example.com",
    "docs.docker.com",
    "github.com",
    "helm.sh",
    "keepachangelog.com",
    "kind.sigs.k8s.io",
    "kubernetes.default.svc",
    "kubernetes.io",
    "semver.org",
    "taplo.tamasfe.dev",
}
LONGEST_README = 150
LONGEST_DECISION = 60
"""Lines that fill about a printed page."""

EVERY_TABLE = {
    "cluster": {},
    "images": {"x": {}},
    "services": {"x": {"endpoints": {"y": {}}, "helm": {}}},
    "options": {},
}
NOT_THERE_YET = "does not support yet"

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SHOWN_FILE = re.compile(r"^`([\w./-]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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
    return [dedent(text) for name, text in found if name == language]


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


def section_of(option: Any) -> str:
    return sections("docs/options.md")[option.flag + f"={option.metavar}".rstrip("=")]


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
def test_an_options_section_has_use_default_variable_key_and_an_example(option: Any) -> None:
    text = section_of(option)

    assert re.search(r"^\* \*\*Use it\*\* \S.*\.$", text, re.MULTILINE)
    assert "* **Default:** " in text
    assert f"**Environment:** `{option.variable}`." in text
    assert option.key in tomllib.loads(text.partition("**File:** `")[2].partition("`.")[0])


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_an_options_examples_are_values_that_it_takes(option: Any) -> None:
    text = section_of(option)
    written = tomllib.loads(text.partition("**File:** `")[2].partition("`.")[0])
    line = text.partition("* **Example:** `")[2].partition("`\n")[0]
    words = [word for word in line.split() if word.startswith(option.flag)]

    given = words[0].partition("=")[2] or "yes"
    asked = {f"kindinfra_{option.key}": given}
    _, problems = read_settings(asked.get, written.items(), source="docs/options.md")
    _, others = read_settings(lambda _: None, written.items(), source="docs/options.md")

    assert (problems, others) == ((), ())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_an_options_variable_and_key_are_in_the_table(option: Any) -> None:
    assert f"| `{option.variable}` | `{option.key}` |" in read("docs/options.md")


def test_the_help_in_the_table_of_options_is_the_one_that_pytest_shows() -> None:
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


def with_key(section: str, example: str) -> dict[str, Any]:
    """Return the tables of a declaration with one key's example in its section."""
    given = tomllib.loads(example)
    service: dict[str, Any] = {"manifests": ["x.yaml"]}
    tables: dict[str, Any] = {"images": {"base": {}, "web": {}, "worker": {}}, "services": {}}
    match section:
        case "cluster":
            return {"cluster": given}
        case "images":
            return {"images": given}
        case "images.NAME":
            return {"images": {"base": {}, "x": given}}
        case "services.NAME":
            needed = {one.partition(":")[0]: service for one in given.get("needs", ())}
            return {
                **tables,
                "services": {**needed, "x": {**service, **_WITH.get(example, {}), **given}},
            }
        case "services.NAME.helm":
            return {"services": {"x": {"helm": {"chart": "x", **given}}}}
    endpoint = {
        "port": 80,
        "scheme": "tcp" if "=" in example and {"send", "expect"} & given.keys() else "http",
    }
    if "address" in given:
        endpoint |= {"expose": "ingress", "path": "/"}
    return {"services": {"x": {**service, "endpoints": {"y": {**endpoint, **given}}}}}


_WITH = {'inputs = ["users.json"]': {"run": "seed:users"}}
"""What an example's key needs beside it."""

KEY_EXAMPLES = [
    (title.strip("[]"), example)
    for title, text in sections("docs/declaration.md").items()
    for example in re.findall(r"^\| `\w+` \|.*\| `([^`|]+ = [^`|]+)` \|$", text, re.MULTILINE)
]


@pytest.mark.parametrize(("section", "example"), KEY_EXAMPLES)
def test_the_example_of_a_key_is_one_that_it_takes(section: str, example: str) -> None:
    assert problems_of(with_key(section, example)) == ()


def test_every_key_has_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = known_keys(monkeypatch)
    rows = sum(len(names) for section, names in keys.items() if section)

    assert len(KEY_EXAMPLES) == rows


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) < LONGEST_README


@pytest.mark.parametrize("name", ["README.md", "docs/tutorial.md"])
def test_files_that_a_page_shows_are_those_of_the_example(name: str) -> None:
    shown = dict(_SHOWN_FILE.findall(read(name)))

    assert shown == {file: read(f"examples/hello/{file}") for file in shown}
    assert {"kindinfra.toml", "web/Dockerfile", "k8s/web.yaml", "test_web.py"} <= shown.keys()


def test_the_readme_says_how_to_install_with_an_extra_that_there_is() -> None:
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]

    named = set(re.findall(r"pytest-kindinfra\[(\w+)\]", read("README.md")))

    assert "$ pip install pytest-kindinfra[xdist]" in read("README.md")
    assert named <= extras.keys()


@every_page
def test_yaml_and_json_blocks_can_be_read(page: Path) -> None:
    for text in blocks(page, "yaml"):
        assert list(yaml.safe_load_all(text))
    for text in blocks(page, "json"):
        json.loads(text)


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


def test_the_index_has_every_page_once_under_its_kind() -> None:
    index = ROOT / "docs" / "README.md"
    links = [link for link in _LINK.findall(index.read_text("utf-8")) if link.endswith(".md")]
    listed = [(index.parent / link).resolve() for link in links]

    pages = set(ROOT.glob("docs/**/*.md")) - {index, *DECISIONS}
    assert sorted(path for path in listed if path in pages) == sorted(pages)


def dead_links(page: Path) -> Iterator[str]:
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@every_page
def test_options_of_pytest_that_a_page_names_are_there(page: Path) -> None:
    named = set(re.findall(r"(?<![\w#-])--kindinfra-[a-z]+(?:-[a-z]+)*", page.read_text("utf-8")))

    assert named - {option.flag for option in OPTIONS} == set()


@every_page
def test_commands_that_a_page_runs_are_there(page: Path) -> None:
    words = {action.dest: action for action in make_parser()._actions}  # noqa: SLF001 - argparse tells by no other way
    known = set(words["command"].choices or ())

    lines = [line for text in blocks(page, "console") for line in text.splitlines()]
    run = {match[1] for line in lines if (match := re.match(r"\$ kindinfra ([a-z]+)", line))}
    assert run - known == set()


def test_the_page_of_the_command_has_all_of_it() -> None:
    words = {action.dest: action for action in make_parser()._actions}  # noqa: SLF001 - the same
    named = set(re.findall(r"`kindinfra ([a-z]+)", read("docs/command.md")))

    assert set(words["command"].choices or ()) == named


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


# -- the glossary ----------------------------------------------------------------------------------


def glossary() -> dict[str, str]:
    """Return each word of the glossary with its name in the code."""
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| `([^`|]+)` \|$", read("docs/glossary.md"), re.MULTILINE
    )
    return {word.strip(): name for word, name in rows}


def test_every_row_of_the_glossary_has_a_name_in_the_code() -> None:
    rows = [line for line in read("docs/glossary.md").splitlines() if line.startswith("| ")]
    heads = [line for line in rows if line.startswith(("| word", "| ---"))]

    assert len(glossary()) == len(rows) - len(heads)


@pytest.mark.parametrize("name", sorted(set(glossary().values())))
def test_a_name_of_the_glossary_is_in_the_code(name: str) -> None:
    if "/" in name:
        assert (ROOT / "pytest_kindinfra" / name).exists()
    else:
        owner, _, member = name.partition(".")
        pattern = rf"^(class|def) {owner}\b|^{owner} ="
        (text, *_) = [text for text in sources() if re.search(pattern, text, re.MULTILINE)]
        assert not member or re.search(rf"^    {member}\b", text, re.MULTILINE)


def test_retired_words_of_the_code_are_not_in_the_glossary() -> None:
    retired = {
        "line",
        "taking",
        "taker",
        "home",
        "ledger",
        "loss",
        "held",
        "beat",
        "shelf",
        "workshop",
        "order",
        "life",
    }

    assert retired & {word.lower() for word in glossary()} == set()


@cache
def sources() -> tuple[str, ...]:
    return tuple(path.read_text("utf-8") for path in ROOT.glob("pytest_kindinfra/**/*.py"))


# -- decisions and tests that pages name -----------------------------------------------------------


NAMED_TESTS = _NAMED_TEST.findall(read("docs/crash-safety.md"))


def test_the_page_on_crash_safety_names_tests() -> None:
    assert len(NAMED_TESTS) > 30


@pytest.mark.parametrize(("file", "name"), NAMED_TESTS)
def test_the_tests_that_show_crash_safety_are_there(file: str, name: str) -> None:
    text = read(f"tests/{file}")

    there = rf"^ *(?:def|class) {name}\b|^{name} ="
    assert re.search(there, text, re.MULTILINE), f"{file} has no {name}"

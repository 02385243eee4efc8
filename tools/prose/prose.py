"""Checks the wording of texts, and measures how easily they are read.

    python tools/prose/prose.py check                  # what `make lint` runs
    python tools/prose/prose.py figures [--at=REVISION]

`words.toml` in this folder says which texts are read and which phrases have a plain word instead.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

ROOT = Path(__file__).parents[2]
WORDS = Path(__file__).with_name("words.toml")
LONG = 25
"""Words from which on a sentence counts as long."""

SHORTEST = 4
"""Words of the shortest sentence that is measured: a cell of a table often has only a name."""

_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"``[^`]*``|`[^`]*`")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_URL = re.compile(r"<?https?://\S+")
_HEADING = re.compile(r"^#+ .*$", re.MULTILINE)
_RULE = re.compile(r"^ *\|[ :|-]+\|$", re.MULTILINE)
_ITEM = re.compile(r"^ *(?:[*-]|\d+\.) ", re.MULTILINE)
_END = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z*`\"(])|\n\s*\n")
_ARGUMENT = re.compile(r"^ +\w+: ", re.MULTILINE)
"""The name before its description in `Args:` and `Attributes:`."""
_WORD = re.compile(r"[A-Za-z][\w'-]*")
_PASSIVE = re.compile(
    r"\b(?:is|are|was|were|be|been|being)(?: (?:not|also|only|never|always|still|then|now))?"
    r" (?:\w+ed|built|made|given|taken|told|said|kept|known|read|run|sent|set|found|shown|held"
    r"|written|left|put|seen|chosen|started|done|drawn|gone|lost|meant|split|cut)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of prose, and the number of its first line in the file."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """How a text reads.

    Attributes:
        words: All of them.
        sentences: Their number.
        long: Sentences of more than `LONG` words.
        passive: Sentences with a passive verb, as far as a pattern finds it.
    """

    words: int
    sentences: int
    long: int
    passive: int

    def row(self, name: str) -> str:
        """Return a row of the table: words, words in a sentence, shares in percent."""
        count = max(1, self.sentences)
        mean, long, passive = (
            self.words / count,
            100 * self.long / count,
            100 * self.passive / count,
        )
        return f"{name:<44} {self.words:>6} {mean:>6.1f} {long:>6.0f} {passive:>8.0f}"


def _blank(match: re.Match[str]) -> str:
    """Return as many line ends as a match has, so that the numbers of lines stay."""
    return "\n" * match[0].count("\n")


def markdown(text: str) -> Iterator[Passage]:
    """Give the prose of a page: paragraphs, items and cells, without code and addresses."""
    plain = _RULE.sub("", _HEADING.sub("", _FENCE.sub(_blank, text)))
    plain = _URL.sub("", _LINK.sub(r"\1", _CODE.sub("X", plain))).replace("**", "")
    begin, paragraph = 1, list[str]()
    for number, line in enumerate([*plain.split("\n"), ""], start=1):
        row = line.lstrip().startswith("|")
        if row or not line.strip() or _ITEM.match(line):
            if paragraph:
                yield Passage(begin, "\n".join(paragraph))
            begin, paragraph = number, []
        if row:
            yield from (Passage(number, cell.strip()) for cell in line.split("|") if cell.strip())
        elif line.strip():
            begin, paragraph = begin if paragraph else number, [*paragraph, _ITEM.sub("", line)]


def python(text: str) -> Iterator[Passage]:
    """Give the strings and the comments of a module; a string without blanks is no prose."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield Passage(node.lineno, _ARGUMENT.sub("", _CODE.sub("X", node.value)))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield Passage(token.start[0], token.string.lstrip("# "))


READERS: dict[str, Callable[[str], Iterator[Passage]]] = {"markdown": markdown, "python": python}


def sentences(passage: Passage) -> list[str]:
    """Return the sentences of a passage that have a word."""
    return [one for one in _END.split(passage.text) if _WORD.search(one)]


def complaints(passages: Iterable[Passage], rules: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Give the line and the reason of each phrase that has a plain word, and of long sentences."""
    retired = [
        (re.compile(rf"\b(?:{one['phrase']})\b", re.IGNORECASE), one["instead"])
        for one in rules["retired"]
    ]
    longest = rules["limits"]["longest_sentence"]
    for passage in passages:
        for pattern, instead in retired:
            for match in pattern.finditer(passage.text):
                line = passage.line + passage.text.count("\n", 0, match.start())
                yield line, f'"{match[0]}": write {instead}'
        for sentence in sentences(passage):
            if (count := len(_WORD.findall(sentence))) > longest:
                words = " ".join(sentence.split()[:6])
                yield passage.line, f"a sentence of {count} words: {words} ..."


def figures(passages: Iterable[Passage]) -> Figures:
    """Measure the sentences of a text."""
    pieces = [sentence for passage in passages for sentence in sentences(passage)]
    found = [one for one in pieces if len(_WORD.findall(one)) >= SHORTEST]
    counts = [len(_WORD.findall(sentence)) for sentence in found]
    return Figures(
        words=sum(counts),
        sentences=len(found),
        long=sum(count > LONG for count in counts),
        passive=sum(bool(_PASSIVE.search(sentence)) for sentence in found),
    )


def files(rules: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """Give the texts that the rules name: how each is read, and its path."""
    for group in rules["texts"]:
        for pattern in group["paths"]:
            yield from ((group["kind"], path) for path in sorted(ROOT.glob(pattern)))


def check() -> int:
    """Print all that has a plain word instead; return 1 if there is any."""
    rules = tomllib.loads(WORDS.read_text("utf-8"))
    found = 0
    for kind, path in files(rules):
        passages = READERS[kind](path.read_text("utf-8"))
        for line, why in sorted(complaints(passages, rules)):
            print(f"{path.relative_to(ROOT)}:{line}: {why}")
            found += 1
    return 1 if found else 0


def show(revision: str) -> int:
    """Print the figures of each page of the working tree or of a revision, and of all together."""
    rules = tomllib.loads(WORDS.read_text("utf-8"))
    patterns = [
        one for group in rules["texts"] if group["kind"] == "markdown" for one in group["paths"]
    ]
    pages = _pages_at(revision, patterns) if revision else _pages(rules)
    print(f"{'':<44} {'words':>6} {'w/sent':>6} {f'>{LONG} %':>6} {'passive %':>8}")
    whole: list[Passage] = []
    for name, text in pages:
        passages = list(markdown(text))
        whole += passages
        print(figures(passages).row(name))
    print(figures(whole).row("all"))
    return 0


def _pages(rules: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, path in files(rules):
        if kind == "markdown":
            yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def _pages_at(revision: str, patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    globs = [f":(glob){pattern}" for pattern in patterns]
    names = _git("ls-tree", "-r", "--name-only", revision).splitlines()
    wanted = set(_git("diff", "--name-only", _EMPTY, revision, "--", *globs).splitlines())
    yield from ((name, _git("show", f"{revision}:{name}")) for name in names if name in wanted)


_EMPTY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""Git's empty tree."""


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def main() -> int:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["check", "figures"])
    parser.add_argument("--at", default="", metavar="REVISION", help="figures of a commit")
    given = parser.parse_args()
    return check() if given.command == "check" else show(given.at)


if __name__ == "__main__":
    sys.exit(main())

"""The images that a Dockerfile starts from or takes files from.

It reads as much of the language as that takes: continued lines, comments, heredocs, arguments
and stages. Pure; it must not know engines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

_VARIABLE = re.compile(r"\$\{(\w+)(?::?([-+])([^}]*))?\}|\$(\w+)")
_ESCAPE = re.compile(r"\A(?:#.*\n)*#\s*escape\s*=\s*`", re.IGNORECASE)
_ARGUMENT = re.compile(r"""(\w+)(?:=("[^"]*"|'[^']*'|\S*))?""")
_HEREDOC = re.compile(r"""(?:^|\s)\d*<<(-?)(["']?)([A-Za-z_]\w*)\2(?=\s|$)""")
_TAKEN_FROM = re.compile(r"--from=(\S+)|--mount=(?:\S*,)?from=([^,\s]+)", re.IGNORECASE)


def references(
    text: str, *, build_args: Mapping[str, str], named: Container[str]
) -> tuple[str, ...]:
    """Return what is meant by FROM, `COPY --from` and `RUN --mount=from=`, each once.

    Args:
        text: The Dockerfile.
        build_args: Win over the defaults of ARG.
        named: Contexts that are given by name, so that FROM means them.
    """
    stages, variables = {"scratch"}, dict(build_args)
    found: dict[str, None] = {}

    def take(reference: str) -> None:
        # Only stages above count: `FROM golang AS golang` starts from an image.
        if reference.lower() not in stages and reference not in named and not reference.isdigit():
            found[reference] = None

    started = False
    for keyword, rest in instructions(text):
        if keyword == "ARG" and not started:
            for name, default in _ARGUMENT.findall(rest):
                variables.setdefault(name, expand(default.strip("\"'"), variables))
        elif keyword == "FROM":
            started = True
            reference, *alias = [word for word in rest.split() if not word.startswith("--")] or [""]
            take(expand(reference.strip("\"'"), variables))
            stages |= {name.lower() for name in alias[1:2]}
        else:
            for copied, mounted in _TAKEN_FROM.findall(rest):
                take(copied or mounted)
    return tuple(found)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction's keyword and the rest of it, on one line and without heredocs."""
    escape = "`" if _ESCAPE.match(text) else "\\"
    lines = iter(text.splitlines())
    begun = ""
    for line in lines:
        words = line.strip()
        if not words or words.startswith("#"):  # neither ends an instruction that is continued
            continue
        begun += words.removesuffix(escape)
        if words.endswith(escape):
            begun += " "
            continue
        keyword, _, rest = begun.strip().partition(" ")
        if keyword.upper() == "ONBUILD":
            keyword, _, rest = rest.strip().partition(" ")
        if keyword.upper() in {"RUN", "COPY", "ADD"}:
            for dash, _, word in _HEREDOC.findall(rest):
                _skip_heredoc(lines, word, indented=bool(dash))
        yield keyword.upper(), rest.strip()
        begun = ""


def expand(value: str, variables: Mapping[str, str]) -> str:
    """Replace `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+instead}` in `value`.

    A variable that is not there is empty.
    """

    def replace(match: re.Match[str]) -> str:
        known = variables.get(match[1] or match[4], "")
        if match[2] == "+":
            return match[3] if known else ""
        return known or match[3] or ""

    return _VARIABLE.sub(replace, value)


def variables(value: str) -> tuple[str, ...]:
    """Return the names that `expand` would look up in `value`."""
    return tuple(match[1] or match[4] for match in _VARIABLE.finditer(value))


def _skip_heredoc(lines: Iterator[str], end: str, *, indented: bool) -> None:
    for line in lines:
        if (line.lstrip("\t") if indented else line) == end:
            return

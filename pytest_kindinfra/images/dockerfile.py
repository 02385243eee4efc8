"""What a Dockerfile says: base images, stages, arguments."""

from __future__ import annotations

import csv
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.images.expansion import expand_dockerfile_word
from pytest_kindinfra.references import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_SPACES = "\t\v\f\r "


_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")


_DIRECTIVES = ("syntax", "escape", "check")


_HEREDOC = re.compile(r"\d*<<(-?)[ \t]*([^<]+)")


_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


_BYTE_ORDER_MARK = "\ufeff"


_STANDARD_SYNTAX = re.compile(r"(?:docker\.io/)?docker/dockerfile(?:-upstream)?(?:[:@].*)?")


def references(
    text: str,
    *,
    build_args: Mapping[str, str],
    named: Iterable[str],
    platform: Mapping[str, str] | None = None,
) -> tuple[str, ...]:
    """Return what is meant by FROM, `COPY --from` and `RUN --mount=from=`, each once.

    Args:
        text: The Dockerfile.
        build_args: Win over the defaults of ARG.
        named: Contexts that are given by name, so that FROM means them.
        platform: BuildKit's own arguments, such as TARGETARCH; `platform_arguments` makes them.
    """
    escape = _directives(text).get("escape", "\\")
    contexts = {normalise(name) for name in named}
    variables = {**(platform or {})}
    variables.update((name, build_args[name]) for name in build_args.keys() & variables.keys())
    stages = {"scratch"}
    found: dict[str, None] = {}
    started = False
    for keyword, rest in instructions(text):
        if keyword == "ARG" and not started:
            variables.update(_arguments(rest, build_args, variables, escape))
            continue
        if keyword == "FROM":
            started = True
            meant = [_base(rest, variables, escape)]
        else:
            meant = list(_copied_from(keyword, rest, escape))
        for reference in meant:
            # Only stages above count: `FROM golang AS golang` starts from an image.
            is_stage = reference.lower() in stages or reference.isdigit()
            if not is_stage and not (contexts and normalise(reference) in contexts):
                found[reference] = None
        if keyword == "FROM":
            stages |= _stage(rest)
    return tuple(found)


def stage_names(text: str) -> frozenset[str]:
    """Return the names of all stages; BuildKit puts a context of such a name in a stage's place."""
    found = (_stage(rest) for keyword, rest in instructions(text) if keyword == "FROM")
    return frozenset().union(*found)


def platform_arguments(target: str, *, built_on: str) -> dict[str, str]:
    """Return what BuildKit sets by itself: TARGETARCH, BUILDPLATFORM and the like.

    Args:
        target: The platform that is built for, such as `linux/arm/v7`.
        built_on: The builder's own.
    """
    return {**_platform_parts("TARGET", target), **_platform_parts("BUILD", built_on)}


def _platform_parts(side: str, platform: str) -> dict[str, str]:
    system, architecture, variant = (*platform.split("/"), "", "", "")[:3]
    parts = {"PLATFORM": platform, "OS": system, "ARCH": architecture, "VARIANT": variant}
    return {f"{side}{key}": value for key, value in parts.items()}


def has_own_syntax(text: str) -> bool:
    """Whether `# syntax=` names another language than the Dockerfile's."""
    syntax = _directives(text).get("syntax")
    return syntax is not None and not _STANDARD_SYNTAX.fullmatch(syntax)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction's keyword and the rest of it, on one line and without heredocs."""
    escape = _directives(text).get("escape", "\\")
    lines = iter(text.removeprefix(_BYTE_ORDER_MARK).split("\n"))
    for line in lines:
        start = line.rstrip("\r").lstrip()
        if not start or start.startswith("#"):
            continue
        whole = _continued(start, lines, escape).strip()
        keyword, rest = _split(whole)
        if keyword == "ONBUILD":
            keyword, rest = _split(rest)
        if keyword in _WITH_HEREDOCS:
            for indented, end in _heredocs(rest, escape):
                _skip_heredoc(lines, end, indented=indented)
        if keyword:
            yield keyword, rest


def _directives(text: str) -> dict[str, str]:
    """Return the parser directives, which stand before all else."""
    found: dict[str, str] = {}
    for line in text.removeprefix(_BYTE_ORDER_MARK).split("\n"):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _DIRECTIVES:
            break
        found.setdefault(match[1].lower(), match[2])
    if found.get("escape") not in ("\\", "`"):
        found.pop("escape", None)
    return found


def _continued(start: str, lines: Iterator[str], escape: str) -> str:
    """Return an instruction on one line; comments and empty lines within it do not end it."""
    ending = re.compile(rf"(^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*$")
    whole = ""
    line: str | None = start
    while line is not None:
        whole += ending.sub(r"\1", line)
        if not ending.search(line):
            return whole
        line = next((one for one in map(_without_end, lines) if not _is_skipped(one)), None)
    return whole


def _without_end(line: str) -> str:
    return line.rstrip("\r")


def _is_skipped(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _split(line: str) -> tuple[str, str]:
    """Return an instruction's keyword in capitals, and the rest; any white space parts them."""
    keyword, *rest = re.split(f"[{_SPACES}]+", line.strip(), maxsplit=1)
    return keyword.upper(), rest[0].strip() if rest else ""


def _words(text: str, escape: str) -> list[str]:
    """Return words with their quotes; in quotes, and after `<<`, white space parts nothing."""
    one = re.escape(escape)
    word = rf"""(?:<<[ \t]*|{one}.|"(?:{one}.|[^"{one}])*"?|'[^']*'?|[^\s"'{one}]|{one}$)+"""
    return re.findall(word, text)


def _heredocs(rest: str, escape: str) -> Iterator[tuple[bool, str]]:
    """Yield, for each heredoc of an instruction, whether tabs go before its end, and that end."""
    if "<<" not in rest:
        return
    for word in _words(rest, escape):
        match = _HEREDOC.fullmatch(word)
        if match and (end := expand_dockerfile_word(match[2], {}, escape=escape)):
            yield bool(match[1]), end


def _skip_heredoc(lines: Iterator[str], end: str, *, indented: bool) -> None:
    for line in map(_without_end, lines):
        if (line.lstrip("\t") if indented else line) == end:
            return


def _arguments(
    rest: str, build_args: Mapping[str, str], variables: Mapping[str, str], escape: str
) -> dict[str, str]:
    """Return the values that an ARG before the first FROM gives."""
    values = dict(variables)
    for word in _words(rest, escape):
        name, given, default = word.partition("=")
        if name in build_args:
            values[name] = build_args[name]
        elif given:
            values[name] = expand_dockerfile_word(default, values, escape=escape)
    return values


def _base(rest: str, variables: Mapping[str, str], escape: str) -> str:
    words = [word for word in rest.split() if not word.startswith("--")]
    return expand_dockerfile_word(words[0], variables, escape=escape) if words else ""


def _stage(rest: str) -> set[str]:
    """Return the name that a FROM gives to its stage, if any."""
    words = [word for word in rest.split() if not word.startswith("--")]
    return {words[2].lower()} if len(words) > 2 and words[1].lower() == "as" else set()  # noqa: PLR2004 - IMAGE as NAME


def _copied_from(keyword: str, rest: str, escape: str) -> Iterator[str]:
    """Yield what the flags of an instruction take files from; only those before all else count."""
    for word in _words(rest, escape):
        if not word.startswith("--") or word == "--":
            return
        flag, _, value = expand_dockerfile_word(word, _Unchanged(), escape=escape).partition("=")
        if keyword in ("COPY", "ADD") and flag == "--from":
            yield value
        elif keyword == "RUN" and flag == "--mount":
            yield from _mounted_from(value)


class _Unchanged(dict[str, str]):
    """Variables that stay as they are: BuildKit expands none in `from`."""

    def __missing__(self, name: str) -> str:
        return f"${name}"

    def __contains__(self, name: object) -> bool:
        return True


def _mounted_from(value: str) -> Iterator[str]:
    with suppress(csv.Error):
        for row in csv.reader([value]):
            for field in row:
                key, _, source = field.partition("=")
                if key.strip().lower() == "from" and source:
                    yield source.strip()

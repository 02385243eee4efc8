"""Ignore rules as BuildKit reads them: which paths of a build context are not sent.

They follow github.com/moby/patternmatcher, whose rules are subtle: the last rule that matches a
path or a folder above it decides, case counts, and an exception such as `!**/*.go` has its effect
within ignored folders too. A path that is sent but taken for ignored would not be hashed, so
that its change would go unnoticed. Pure; it must not know files.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


_SPECIAL = re.compile(r"[*?^\[\]\\]")


_TOKEN = re.compile(
    r"(?P<deep>\*\*/?)|(?P<star>\*)|(?P<one>\?)|\\(?P<escaped>.)|(?P<set>\[[^]]*\])"
)


class IgnoreRules:
    """The lines of an ignore file."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = [rule for line in lines if (rule := _rule(line))]
        self._exceptions = [rule for rule in self._rules if rule.exception]
        self._matched: dict[str, tuple[bool, ...]] = {"": (False,) * len(self._rules)}

    def ignore(self, path: str) -> bool:
        """Whether `path` is left out; parts are joined by slashes, relative to the context."""
        ignored = False
        above = self._matching(path.rpartition("/")[0])
        for rule, matches_above in zip(self._rules, above, strict=True):
            if rule.exception == ignored and (matches_above or rule.matches(path)):
                ignored = not rule.exception
        return ignored

    def _matching(self, folder: str) -> tuple[bool, ...]:
        """Say of each rule whether it matches `folder` or one above; each file in it asks."""
        if folder not in self._matched:
            above = self._matching(folder.rpartition("/")[0])
            self._matched[folder] = tuple(
                matches or rule.matches(folder)
                for rule, matches in zip(self._rules, above, strict=True)
            )
        return self._matched[folder]

    def ignore_all_in(self, folder: str) -> bool:
        """Whether no exception can mean something in `folder`, which itself is left out."""
        starts = [rule.fixed_start for rule in self._exceptions]
        if any(_SPECIAL.search(start) for start in starts):
            return False
        return not any(f"{start}/".startswith(f"{folder}/") for start in starts)


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    expression: re.Pattern[str] | None
    exception: bool

    def matches(self, path: str) -> bool:
        return self.expression is not None and self.expression.fullmatch(path) is not None

    @property
    def fixed_start(self) -> str:
        """The pattern without `/**` and `/*` at its end."""
        return self.pattern.removesuffix("/**").removesuffix("/*")


def _rule(line: str) -> _Rule | None:
    """Return the rule of a line, None for a comment (a `#` in the first column) or a blank one."""
    pattern = line.strip()
    if not pattern or line.startswith("#"):
        return None
    exception = pattern.startswith("!")
    pattern = posixpath.normpath(pattern.removeprefix("!").strip() or ".").lstrip("/")
    try:
        expression = re.compile(_expression(pattern), re.DOTALL)
    except re.error:
        expression = None  # the build will say what is wrong with it
    return _Rule(pattern, expression, exception)


def _expression(pattern: str) -> str:
    """Return the regular expression for a pattern."""
    rest = pattern.removeprefix("**")
    if rest != pattern and not _SPECIAL.search(rest):  # moby's own shortcut: compares the end
        optional = rest.startswith("/")
        return f"(?:.*/)?{re.escape(rest[1:])}" if optional else f".*{re.escape(rest)}"
    parts, position = [], 0
    for token in _TOKEN.finditer(pattern):
        parts.append(re.escape(pattern[position : token.start()]))
        parts.append(_translated(token, last=token.end() == len(pattern)))
        position = token.end()
    return "".join([*parts, re.escape(pattern[position:])])


def _translated(token: re.Match[str], *, last: bool) -> str:
    if token["deep"]:
        return ".*" if last else "(?:.*/)?"
    if token["star"]:
        return "[^/]*"
    if token["one"]:
        return "[^/]"
    return re.escape(token["escaped"]) if token["escaped"] else token["set"]

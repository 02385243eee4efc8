"""Variables in texts: `$NAME`, `${NAME}` and `${NAME:-default}` with their relatives.

There are two dialects. In the declaration `$$` is a dollar sign and a variable that is not set is
a problem, as in Compose files. In a Dockerfile quotes and the escape character count, and a
variable that is not set is empty (BuildKit, frontend/dockerfile/shell/lex.go). Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


_SPECIAL = re.compile(r"[0-9]+|[@*#?\-$!]")
"""What a shell has besides names; never set here."""


_WITH_COLON = ("-", "+", "?")


_DEFAULT, _INSTEAD, _REQUIRED = _WITH_COLON


@dataclass(frozen=True, slots=True)
class Expanded:
    """What became of a text.

    Attributes:
        text: With the values in place of the variables.
        names: The variables that it names, nested ones too, each once.
        problems: What keeps it from being used, such as `variable "TOKEN" is not set`.
    """

    text: str = ""
    names: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def expand(text: str, variables: Mapping[str, str]) -> Expanded:
    """Replace the variables of a text from the declaration.

    `$NAME`, `${NAME}`, `${NAME-default}`, `${NAME+instead}`, `${NAME?message}`, and the three with
    a colon, for which an empty variable counts as one that is not set. Defaults may hold variables
    themselves. `$$` is a dollar sign; so is one before anything but a name or a brace.
    """
    return _Reader(text, variables, escape="").read()


def expand_dockerfile_word(word: str, variables: Mapping[str, str], *, escape: str) -> str:
    """Replace the variables in a word of a Dockerfile and remove its quotes, as BuildKit does.

    Args:
        word: As written.
        variables: Name to value.
        escape: The Dockerfile's escape character.
    """
    return _Reader(word, variables, escape=escape).read().text


class _Reader:
    """Reads one text from left to right; an empty escape character means the declaration's."""

    def __init__(self, text: str, variables: Mapping[str, str], *, escape: str) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._at = 0

    def read(self, *, until: str = "", raw: bool = False) -> Expanded:
        """Read to the end, or past `until`; `raw` leaves escape characters in, for patterns."""
        parts: list[Expanded] = []
        while self._at < len(self._text):
            if until and self._text[self._at] == until:
                self._at += 1
                return _joined(parts)
            parts.append(self._next(raw=raw))
        return _joined(parts)

    def _next(self, *, raw: bool) -> Expanded:
        character = self._take()
        if character == "$":
            return self._dollar()
        if self._escape and character == self._escape:
            return Expanded((character if raw else "") + self._take())
        if self._escape and character == "'":
            return self._single_quoted()
        if self._escape and character == '"':
            return self._double_quoted()
        return Expanded(character)

    def _take(self) -> str:
        taken = self._text[self._at : self._at + 1]
        self._at += 1
        return taken

    def _single_quoted(self) -> Expanded:
        quoted, _, _ = self._text[self._at :].partition("'")
        self._at += len(quoted) + 1
        return Expanded(quoted)

    def _double_quoted(self) -> Expanded:
        parts: list[Expanded] = []
        while self._at < len(self._text) and (character := self._take()) != '"':
            if character == "$":
                parts.append(self._dollar())
            elif character == self._escape and self._peek() in ('"', "$", self._escape):
                parts.append(Expanded(self._take()))
            else:
                parts.append(Expanded(character))
        return _joined(parts)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _dollar(self) -> Expanded:
        if not self._escape and self._peek() == "$":
            return Expanded(self._take())
        if self._peek() == "{":
            self._at += 1
            return self._braces()
        name = self._name()
        return self._value(name) if name else Expanded("$")

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None and self._escape:
            match = _SPECIAL.match(self._text, self._at)
        self._at += len(match[0]) if match else 0
        return match[0] if match else ""

    def _value(self, name: str) -> Expanded:
        if name in self._variables:
            return Expanded(self._variables[name], (name,))
        problem = () if self._escape else (f'variable "{name}" is not set',)
        return Expanded("", (name,), problem)

    def _braces(self) -> Expanded:
        begin = self._at
        if not (name := self._name()):
            self.read(until="}")
            return self._unknown(begin)
        operator = self._take()
        if operator == "}":
            return self._value(name)
        if colon := operator == ":":
            operator = self._take()
        if operator in _WITH_COLON and operator:
            chosen = self._chosen(name, operator, empty_is_unset=colon)
            return chosen if self._text[self._at - 1] == "}" else self._unknown(begin)
        if self._escape and operator in ("#", "%", "/") and not colon:
            return self._cut(name, operator)
        self.read(until="}")
        return self._unknown(begin)

    def _unknown(self, begin: int) -> Expanded:
        return Expanded(problems=(f'"${{{self._text[begin : self._at]}" is no variable',))

    def _chosen(self, name: str, operator: str, *, empty_is_unset: bool) -> Expanded:
        word = self.read(until="}")
        value = self._variables.get(name)
        is_set = value is not None and not (empty_is_unset and value == "")
        names = (name, *word.names)
        if operator == _INSTEAD:
            return Expanded(word.text, names, word.problems) if is_set else Expanded("", names)
        if is_set:
            return Expanded(value or "", names)
        if operator == _DEFAULT:
            return Expanded(word.text, names, word.problems)
        why = word.text or ("is empty" if value == "" else "is not set")
        return Expanded("", names, (f'variable "{name}": {why}',))

    def _cut(self, name: str, operator: str) -> Expanded:
        """Read `${NAME#pattern}`, `##`, `%`, `%%`, `${NAME/pattern/text}` and `//`."""
        if twice := self._peek() == operator:
            self._at += 1
        value = self._variables.get(name, "")
        if operator == "/":
            pattern = _pattern(self.read(until="/", raw=True).text, greedy=True)
            text = self.read(until="}", raw=True).text
            return Expanded(re.sub(pattern, lambda _: text, value, count=0 if twice else 1))
        pattern = _pattern(self.read(until="}", raw=True).text, greedy=twice)
        return Expanded(_trimmed(value, pattern, at_end=operator == "%", longest=twice))


def _trimmed(value: str, pattern: str, *, at_end: bool, longest: bool) -> str:
    """Return `value` without the longest or shortest part at one end that matches."""
    cuts = range(len(value) + 1)
    ordered = cuts if at_end == longest else reversed(cuts)
    for cut in ordered:
        part, rest = (value[cut:], value[:cut]) if at_end else (value[:cut], value[cut:])
        if re.fullmatch(pattern, part, re.DOTALL):
            return rest
    return value


def _pattern(text: str, *, greedy: bool) -> str:
    """Return the regular expression for a shell's pattern."""
    parts = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            parts.append(re.escape(next(characters, "\\")))
        elif character in "*?":
            parts.append({"*": ".*" if greedy else ".*?", "?": "."}[character])
        else:
            parts.append(re.escape(character))
    return "".join(parts)


def _joined(parts: list[Expanded]) -> Expanded:
    return Expanded(
        "".join(part.text for part in parts),
        tuple(dict.fromkeys(name for part in parts for name in part.names)),
        tuple(dict.fromkeys(problem for part in parts for problem in part.problems)),
    )

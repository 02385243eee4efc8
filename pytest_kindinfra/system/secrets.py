"""Keep secrets out of everything that is shown or written.

A redactor looks for the values that a run gave it, and for forms that only credentials have.
Values and bytes in, bytes out: where values come from is not known here. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


STARS = "***"


LONGEST_LINE = 1 << 20
"""Bytes of a line that are kept until its end arrives."""


_SHORTEST = 6


_SHORTEST_WORD = 8


_COMMON = re.compile(
    "admin|changeme|default|development|disabled|enabled|example|kindinfra|latest|localhost|master"
    "|passw0rd|password|postgres|private|production|public|release|secret|staging|testing|unknown",
    re.IGNORECASE,
)
"""Words that everyone would guess are no secret, and every second line of a log has one."""


_NAME = re.compile(
    r"(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|KEY|CREDENTIAL|AUTH)S?\d*(?:[_.-]|$)",
    re.IGNORECASE,
)


_FLAG = re.compile(r"--?[\w-]*(?:token|password|passwd|passphrase|client-secret)$", re.IGNORECASE)


_VARIABLE = re.compile(r"[A-Za-z_][\w.-]*")


_SEVERAL_WORDS = re.compile(r"[\s:=][^\s=]")


_BETWEEN_WORDS = re.compile(r"[\s\"'=,;:{}()\[\]<>@]+")


_CREDENTIAL = re.compile(
    r"(?<![\w-])(?:client-key-data|token|password)[\"']?:\s*[\"']?([^\s\"',}]+)"
)


_LEFT_OUT = b"[the rest of a very long line is left out]"


# What only credentials look like. Each begins with something fixed, which makes it fast.
_FORMS = tuple(
    re.compile(pattern)
    for pattern in (
        rb"(client-key-data[\"']?\s*:\s*[\"']?)[^\s\"',}]+",
        rb"()LS0tLS1CRUdJTi(?!BDRVJU)[\w+/-]+=*",  # a PEM in base64, unless it is a certificate
        rb"()eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+",  # a JSON web token
        rb"(token[\"']?[ \t]*[:=][ \t]*[\"']?)[\w.~+/-]{16,}=*",
        rb"([Bb]earer[ \t]+)[\w.~+/-]{16,}=*",
        rb"(uthorization[\"']?[ \t]*[:=][ \t]*[\"']?[BbTt][a-z]+[ \t]+)[^\s\"']+",
        rb"(--[\w-]{0,40}?(?:token|password|passwd|client-secret)[\"']?[=, \t]+[\"']?)[^\s\"',]+",
        rb"(://[^\s/:@\"'<>]{0,256}:)[^\s/@\"'<>]+(?=@(?!sha256:))",
        rb"(https?://)[^\s/:@\"'<>]{16,}(?=@)",
    )
)


class Redactor:
    """Replaces secrets; learns of them as the run does, from any thread.

    Args:
        values: The secrets that are known from the beginning.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        # Appending to a list cannot lose what another thread appends, so no lock is needed.
        self._learnt: list[frozenset[bytes]] = []
        self._longest_first: tuple[int, tuple[bytes, ...]] = (0, ())
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Take further secrets: their lines and words count, in the usual notations.

        What is shorter than six characters or a common word is let through, or every text
        would be stars.
        """
        self._learnt.append(
            frozenset(form for value in values for part in _parts(value) for form in _forms(part))
        )

    def data(self, data: bytes) -> bytes:
        """Return `data` without secrets."""
        for value in self._values():
            data = data.replace(value, STARS.encode())
        for form in _FORMS:
            data = form.sub(rb"\1***", data)
        return data

    def text(self, text: str) -> str:
        """Return `text` without secrets."""
        encoded = text.encode(errors="surrogatepass")
        return self.data(encoded).decode(errors="surrogatepass")

    def words(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return a command without secrets, also those that only a flag or a name marks."""
        before = ("", *argv)
        return tuple(
            self._word(word, is_secret=bool(_FLAG.match(flag)))
            for flag, word in zip(before, argv, strict=False)
        )

    def record(self, value: Any) -> Any:
        """Return the same JSON value without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(name): self.record(part) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.record(part) for part in value]
        return value

    def _word(self, word: str, *, is_secret: bool) -> str:
        if is_secret and not word.startswith("-"):
            return STARS
        name, given, value = word.partition("=")
        if given and name.startswith("-"):  # --build-arg=TOKEN=value
            return f"{name}={self._word(value, is_secret=bool(_FLAG.match(name)))}"
        if value and _VARIABLE.fullmatch(name) and looks_secret(name):
            return f"{name}={STARS}"
        return self.text(word)

    def _values(self) -> tuple[bytes, ...]:
        """Return what to look for, the longest first: one may be a part of another."""
        count, values = self._longest_first
        if count != len(self._learnt):
            count = len(self._learnt)
            values = tuple(sorted(frozenset().union(*self._learnt[:count]), key=len, reverse=True))
            self._longest_first = (count, values)
        return values


class RedactedStream:
    """Redacts what comes in pieces: a line goes on as soon as its end is there."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._pending = b""
        self._skips = False

    def feed(self, piece: bytes) -> bytes:
        """Take a piece, and return what can go on."""
        if self._skips:
            _, newline, piece = piece.partition(b"\n")
            self._skips = not newline
            piece = newline + piece
        whole, newline, self._pending = (self._pending + piece).rpartition(b"\n")
        going = self._redactor.data(whole + newline)
        if len(self._pending) > LONGEST_LINE:  # half a secret may be at its end: none of it goes on
            self._pending, self._skips = b"", True
            going += _LEFT_OUT
        return going

    def end(self) -> bytes:
        """Return what is left: a last line without an end."""
        rest, self._pending = self._redactor.data(self._pending), b""
        return rest


def looks_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret: `NPM_TOKEN`, `apikey`, `db-password`."""
    return bool(_NAME.search(name))


def credentials_in(kubeconfig: str) -> tuple[str, ...]:
    """Return the keys, tokens and passwords in a kubeconfig, unchanged."""
    return tuple(_CREDENTIAL.findall(kubeconfig))


def _parts(value: str) -> Iterator[str]:
    """Yield what of a value must not be seen: each line, and each word that is no plain word.

    Output is shown line by line and indented, and a build takes the token out of a `.npmrc`.
    """
    for line in map(str.strip, value.splitlines()):
        words = _BETWEEN_WORDS.split(line) if _SEVERAL_WORDS.search(line) else ()
        yield from (part for part in {line, line.strip("\"'")} if _is_worth(part))
        yield from (word.strip("/") for word in words if _is_no_plain_word(word))


def _is_worth(part: str) -> bool:
    if part.startswith(("-----BEGIN ", "-----END ")) or _COMMON.fullmatch(part):
        return False
    return len(part) >= _SHORTEST and sum(map(str.isalnum, part)) >= _SHORTEST - 2


def _is_no_plain_word(word: str) -> bool:
    has_both = any(map(str.isdigit, word)) and any(map(str.isalpha, word))
    return has_both and len(word) >= _SHORTEST_WORD


def _forms(part: str) -> Iterator[bytes]:
    """Yield how a secret may be written: as it is, by JSON, by Python, in a URL or in base64."""
    plain = part.encode(errors="surrogatepass")
    yield plain
    yield base64.b64encode(plain).rstrip(b"=")
    yield from (quote(plain, safe=safe).encode() for safe in ("", "/"))
    for written in (json.dumps(part), json.dumps(part, ensure_ascii=False), repr(part)):
        yield written[1:-1].encode(errors="surrogatepass")

"""The secrets that an image is built with: from the environment, and from files.

Read where Docker is going to read them. It must not know engines, nor what becomes of the values.
"""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.dockerfile import expand, variables
from pytest_kindinfra.redaction import looks_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import Image

_LONGEST_FILE = 64 * 1024


def build_secrets(image: Image) -> Iterator[str]:
    """Yield the values that must not be seen when `image` is built.

    Those are: what `--secret` names; a build argument that takes its value from the environment
    if its own name or the variable's looks secret; one in `build_options` with such a name.
    """
    for name, text in image.build_args:
        yield from _from_environment(name, text)
    for flag, value in _flags(image.build_options):
        if flag == "--secret":
            yield from _secret(value)
        elif flag == "--build-arg":
            yield from _argument(value)


def unshown_arguments(image: Image) -> frozenset[str]:
    """Return the build arguments whose values belong into no command: not all can read them."""
    return frozenset(
        name for name, text in image.build_args if variables(text) or looks_secret(name)
    )


def _from_environment(name: str, text: str) -> Iterator[str]:
    known = [variable for variable in variables(text) if os.environ.get(variable)]
    if known and looks_secret(name):
        yield expand(text, os.environ)
    yield from (os.environ[variable] for variable in known if looks_secret(variable))


def _argument(argument: str) -> Iterator[str]:
    name, given, value = argument.partition("=")
    if looks_secret(name):
        yield value if given else os.environ.get(name, "")


def _secret(spec: str) -> Iterator[str]:
    """Yield what `--secret` gives: a variable's value or a file's text.

    The rules are those of buildx (util/buildflags/secrets.go) and BuildKit
    (session/secrets/secretsprovider/store.go): without a source it is the variable named like
    the id, else the file.
    """
    fields = _fields(spec)
    path = fields.get("src") or fields.get("source") or ""
    variable = fields.get("env") or (path if fields.get("type") == "env" else "")
    if not path and not variable:
        known = fields.get("id", "") in os.environ
        variable, path = (fields.get("id", ""), "") if known else ("", fields.get("id", ""))
    yield os.environ.get(variable, "") if variable else _text(path)


def _fields(spec: str) -> dict[str, str]:
    """Return the fields of `id=x,src="a,b"`; nothing if Docker is not going to take it either."""
    with suppress(csv.Error):
        pairs = [field.partition("=") for row in csv.reader([spec]) for field in row]
        return {key.lower(): value for key, _, value in pairs}
    return {}


def _text(path: str) -> str:
    """Return a file's text; nothing for one that is long, no text, or not there."""
    with suppress(OSError, ValueError):
        file = Path(path)
        if file.is_file() and file.stat().st_size <= _LONGEST_FILE:
            return file.read_text("utf-8")
    return ""


def _flags(options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each flag with its value: `--flag value` or `--flag=value`."""
    for number, option in enumerate(options, start=1):
        flag, given, value = option.partition("=")
        yield flag, value if given else "".join(options[number : number + 1])

"""Which values of a build are secret: those that no output and no command may show."""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.images.expansion import expand
from pytest_kindinfra.plan.buildoptions import flags
from pytest_kindinfra.system.secrets import looks_secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import Image


_LONGEST_FILE = 64 * 1024


def build_secrets(image: Image, *, folder: Path) -> Iterator[str]:
    """Yield the values that must not be seen when `image` is built.

    Those are: what `--secret` names; a build argument that takes its value from the environment
    if its own name or the variable's looks secret; one in `build_options` with such a name.
    Relative paths start at `folder`.
    """
    for name, text in image.build_args:
        yield from _from_environment(name, text)
    for flag in flags(image.build_options):
        if flag.name == "--secret":
            yield from _secret(flag.value or "", folder)
        elif flag.name == "--build-arg":
            yield from _argument(flag.value or "")


def unshown_arguments(image: Image) -> frozenset[str]:
    """Return the build arguments whose values belong into no command: not all can read them."""
    return frozenset(
        name
        for name, text in image.build_args
        if expand(text, os.environ).names or looks_secret(name)
    )


def _from_environment(name: str, text: str) -> Iterator[str]:
    found = expand(text, os.environ)
    known = [variable for variable in found.names if os.environ.get(variable)]
    if known and looks_secret(name):
        yield found.text
    yield from (os.environ[variable] for variable in known if looks_secret(variable))


def _argument(argument: str) -> Iterator[str]:
    name, given, value = argument.partition("=")
    if looks_secret(name):
        yield value if given else os.environ.get(name, "")


def _secret(spec: str, folder: Path) -> Iterator[str]:
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
    yield os.environ.get(variable, "") if variable else _text(folder, path)


def _fields(spec: str) -> dict[str, str]:
    """Return the fields of `id=x,src="a,b"`; nothing if Docker is not going to take it either."""
    with suppress(csv.Error):
        pairs = [field.partition("=") for row in csv.reader([spec]) for field in row]
        return {key.lower(): value for key, _, value in pairs}
    return {}


def _text(folder: Path, path: str) -> str:
    """Return a file's text; nothing for one that is long, no text, or not there."""
    with suppress(OSError, ValueError):
        file = folder / os.path.expanduser(path)  # noqa: PTH111 - `~` without a home folder is no error
        if file.is_file() and file.stat().st_size <= _LONGEST_FILE:
            return file.read_text("utf-8")
    return ""

"""The tag is the content: one hash over all that a build can see (docs/decisions/0002).

That is the files of the context after the ignore rules (path, mode and bytes, never times), the
Dockerfile, arguments, target, flags and the ids of the images it starts from. What is hashed
and what is sent is one list: the rules are written to an ignore file that BuildKit reads.
This module reads files and must not know engines or clusters.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.model import Image

NEVER_SENT = ("**/.kindinfra", "**/.pytest_cache", "**/__pycache__")
"""Written by test runs themselves: with them in the context no build would ever be cached."""

_FROM = re.compile(r"^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE)
_ARG = re.compile(r"^\s*ARG\s+(\w+)(?:=(\S*))?", re.IGNORECASE)
_COPY_FROM = re.compile(r"--from=(\S+)", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")
_TAG_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What an image is built from, with paths made absolute and variables expanded.

    Attributes:
        context: The folder that is sent.
        dockerfile: The Dockerfile's path.
        text: Its text.
        ignore: The lines of the ignore file that applies.
        build_args: Name to value.
    """

    context: Path
    dockerfile: Path
    text: str
    ignore: tuple[str, ...]
    build_args: dict[str, str]


def read_source(image: Image, *, folder: Path) -> Source:
    """Read what `image` is built from; relative paths start at `folder`."""
    context = folder / image.context
    dockerfile = folder / image.dockerfile if image.dockerfile else context / "Dockerfile"
    return Source(
        context=context,
        dockerfile=dockerfile,
        text=dockerfile.read_text(),
        ignore=(*_ignore_lines(context, dockerfile), *image.ignore, *NEVER_SENT),
        build_args={name: expand(value, os.environ) for name, value in image.build_args},
    )


def expand(value: str, variables: Mapping[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `$NAME` in `value`; unknown ones become empty."""

    def replace(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        return variables.get(name) or match[2] or ""

    return _VARIABLE.sub(replace, value)


def base_references(source: Source, *, named: Mapping[str, str]) -> tuple[str, ...]:
    """Return the references of the images that the Dockerfile starts from or copies from.

    Args:
        source: What is built.
        named: Contexts that are given by name, so that FROM means them.
    """
    stages: set[str] = {"scratch"}
    variables = dict(source.build_args)
    found: dict[str, None] = {}
    for line in source.text.splitlines():
        if match := _ARG.match(line):
            variables.setdefault(match[1], match[2] or "")
        if match := _FROM.match(line):
            found |= {expand(match[1], variables): None}
            stages |= {match[2].lower()} if match[2] else set()
        found |= dict.fromkeys(_COPY_FROM.findall(line))
    return tuple(
        ref for ref in found if ref.lower() not in stages and ref not in named and not ref.isdigit()
    )


def content_tag(image: Image, source: Source, *, bases: Mapping[str, str]) -> str:
    """Return the tag of what a build of `image` would make.

    Args:
        image: The declared image.
        source: What `read_source` gave for it.
        bases: Each image it starts from to its id, or to its tag if it is a declared one.
    """
    digest = hashlib.sha256()
    settings = (source.text, sorted(source.build_args.items()), image.target, image.build_options)
    digest.update(repr((settings, sorted(bases.items()))).encode())
    for path, mode, content in _files(source):
        digest.update(f"\0{path}\0{mode:o}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:_TAG_DIGITS]


def write_ignore_file(source: Source, *, into: Path) -> Path:
    """Write a copy of the Dockerfile with its ignore file beside it; return the copy's path.

    BuildKit prefers `NAME.dockerignore` beside the Dockerfile (docs.docker.com/build), which is
    how our additions apply without a file of ours in the user's tree.
    """
    into.mkdir(parents=True, exist_ok=True)
    dockerfile = into / "Dockerfile"
    dockerfile.write_text(source.text)
    (into / "Dockerfile.dockerignore").write_text("\n".join(source.ignore) + "\n")
    return dockerfile


def _ignore_lines(context: Path, dockerfile: Path) -> tuple[str, ...]:
    """Return the user's ignore rules: the Dockerfile's own before the context's."""
    for path in (
        dockerfile.with_name(f"{dockerfile.name}.dockerignore"),
        context / ".dockerignore",
    ):
        if path.is_file():
            return tuple(path.read_text().splitlines())
    return ()


def _files(source: Source) -> Iterator[tuple[str, int, bytes]]:
    """Give path, mode and content of all that is sent, in one order everywhere.

    The ignore rules are matched by the `docker` package, which follows Docker's own matcher.
    """
    from docker.utils.build import exclude_paths

    rules = [line.strip() for line in source.ignore if line.strip() and not line.startswith("#")]
    for path in sorted(exclude_paths(os.fspath(source.context), rules, dockerfile="\0")):
        full = source.context / path
        status = full.lstat()
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if stat.S_ISLNK(status.st_mode):
            yield path, stat.S_IFLNK, os.fsencode(full.readlink())
        elif stat.S_ISREG(status.st_mode):
            yield path, mode, full.read_bytes()
        elif stat.S_ISDIR(status.st_mode):
            yield path, stat.S_IFDIR | mode, b""

"""The tag is the content: one hash over all that a build can see (docs/decisions/0002).

That is the files of the context after the ignore rules (path, mode and bytes, never times), the
Dockerfile, arguments, target, flags and the ids of the images it starts from. What is hashed
and what is sent is one list: the rules are written to an ignore file that BuildKit reads.
This module reads files and must not know engines or clusters.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.digests import Digests
from pytest_kindinfra.dockerfile import expand, references
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.ignoring import IgnoreRules
from pytest_kindinfra.ocilayout import INDEX
from pytest_kindinfra.presence import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.digests import FolderDigests
    from pytest_kindinfra.model import Image

NEVER_SENT = ("**/.kindinfra", "**/.pytest_cache", "**/__pycache__")
"""Written by test runs themselves: with them in the context no build would ever be cached."""

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
    """Read what `image` is built from; relative paths start at `folder`.

    Raises:
        KindInfraError: A file cannot be read.
    """
    context = folder / image.context
    dockerfile = folder / image.dockerfile if image.dockerfile else context / "Dockerfile"
    with _reading(image):
        return Source(
            context=context,
            dockerfile=dockerfile,
            text=_read(dockerfile),
            ignore=(*_ignore_lines(context, dockerfile), *image.ignore, *NEVER_SENT),
            build_args={name: expand(value, os.environ) for name, value in image.build_args},
        )


def base_references(source: Source, *, named: Mapping[str, str]) -> tuple[str, ...]:
    """Return the references of the images that the Dockerfile starts from or copies from.

    Args:
        source: What is built.
        named: Contexts that are given by name, so that FROM means them.
    """
    return references(source.text, build_args=source.build_args, named=named)


def content_tag(
    image: Image, source: Source, *, bases: Mapping[str, str], digests: Digests | None = None
) -> str:
    """Return the tag of what a build of `image` would make.

    Args:
        image: The declared image.
        source: What `read_source` gave for it.
        bases: Each image it starts from to its id, or to its tag if it is a declared one.
        digests: Knows those of files that were read before.

    Raises:
        KindInfraError: A file of the context cannot be read.
    """
    digest = hashlib.sha256()
    settings = (source.text, sorted(source.build_args.items()), image.target, image.build_options)
    digest.update(repr((settings, sorted(bases.items()))).encode())
    with _reading(image), (digests or Digests()).of(source.context) as files:
        for path, mode, content in _files(source, files):
            digest.update(os.fsencode(f"\0{path}\0{mode:o}\0{content}"))
    return digest.hexdigest()[:_TAG_DIGITS]


def file_tag(path: Path, digests: Digests | None = None) -> str:
    """Return the tag of an image that comes as a file, or as a folder with an OCI layout.

    In a layout all is named by digests, so the index says what is in it.

    Raises:
        OSError: It cannot be read.
    """
    path = path / INDEX if path.is_dir() else path
    with (digests or Digests()).of(path.parent) as files:
        return files.digest(path.name, path.stat())[:_TAG_DIGITS]


def write_ignore_file(source: Source, *, into: Path) -> Path:
    """Write a copy of the Dockerfile with its ignore file beside it; return the copy's path.

    BuildKit prefers `NAME.dockerignore` beside the Dockerfile (docs.docker.com/build), which is
    how our additions apply without a file of ours in the user's tree.
    """
    into.mkdir(parents=True, exist_ok=True)
    dockerfile = into / "Dockerfile"
    _write(dockerfile, source.text)
    _write(into / "Dockerfile.dockerignore", "\n".join(source.ignore) + "\n")
    return dockerfile


def _ignore_lines(context: Path, dockerfile: Path) -> tuple[str, ...]:
    """Return the user's ignore rules: the Dockerfile's own before the context's."""
    for path in (
        dockerfile.with_name(f"{dockerfile.name}.dockerignore"),
        context / ".dockerignore",
    ):
        if is_file(path):
            return tuple(_read(path).removeprefix("\ufeff").splitlines())
    return ()


def _files(source: Source, files: FolderDigests) -> Iterator[tuple[str, int, str]]:
    """Give path, mode and digest of all that is sent, in one order everywhere."""
    context = os.fspath(source.context)
    for path in _sent(source.context, "", IgnoreRules(source.ignore)):
        info = os.lstat(f"{context}/{path}")
        mode = info.st_mode
        if stat.S_ISLNK(mode):
            target = (source.context / path).readlink()
            yield path, stat.S_IFLNK, _digest(os.fsencode(target))
        elif stat.S_ISREG(mode):
            yield path, stat.S_IMODE(mode), files.digest(path, info)
        elif stat.S_ISDIR(mode):
            is_git = path.rpartition("/")[2] == ".git"
            yield path, mode, _digest(_head(source.context / path)) if is_git else ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sent(folder: Path, above: str, rules: IgnoreRules) -> Iterator[str]:
    """Yield the paths below `folder` that are sent, a folder before what is in it."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = f"{above}{entry.name}"
        ignored = rules.ignore(path)
        is_folder = entry.is_dir(follow_symlinks=False)
        look_inside = is_folder and not (ignored and rules.ignore_all_in(path))
        # git touches its own files when asked for a status; what it holds is known by its HEAD.
        look_inside = look_inside and (ignored or entry.name != ".git")
        inside = list(_sent(folder / entry.name, f"{path}/", rules)) if look_inside else []
        if inside or not ignored:  # an ignored folder is sent along with what is sent of it
            yield path
        yield from inside


def _head(git: Path) -> bytes:
    """Return the commit that is checked out, as far as git's own files tell."""
    head = git / "HEAD"
    name = head.read_bytes().strip() if is_file(head) else b""
    branch = name.removeprefix(b"ref: ")
    if branch == name:
        return name
    loose, packed = git / os.fsdecode(branch), git / "packed-refs"
    if is_file(loose):
        return name + loose.read_bytes()
    refs = packed.read_bytes().splitlines() if is_file(packed) else []
    return b"".join([name, *(ref for ref in refs if ref.endswith(b" " + branch))])


@contextmanager
def _reading(image: Image) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f'image "{image.name}": cannot read what it is built from: {error}'
        raise KindInfraError(msg) from error


def _read(path: Path) -> str:
    """Return a file's text; bytes that are no UTF-8 come through `_write` unharmed."""
    return path.read_bytes().decode("utf-8", errors="surrogateescape")


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))

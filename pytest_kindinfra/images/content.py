"""What the tag of an image covers: everything that its build can read.

Digests of files are remembered from run to run: see `images/digests.py`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.archive import INDEX
from pytest_kindinfra.images.bases import arguments_of, find_bases
from pytest_kindinfra.images.digests import Digests, FolderDigests, identity
from pytest_kindinfra.images.expansion import expand
from pytest_kindinfra.images.ignore import IgnoreRules
from pytest_kindinfra.images.names import context_tag
from pytest_kindinfra.plan.buildoptions import build_arguments, layout_path, platform_of, with_home
from pytest_kindinfra.system.files import is_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.images.bases import Bases
    from pytest_kindinfra.model import Image


NEVER_SENT = ("**/.kindinfra", "**/.pytest_cache", "**/__pycache__")
"""Written by test runs themselves: with them in the context no build would ever be cached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSource:
    """What an image is built from, with paths made absolute and variables expanded.

    Attributes:
        context: The folder that is sent.
        dockerfile: The Dockerfile's path.
        text: Its text.
        ignore: The lines of the ignore file that applies.
        build_args: Name to value.
        options: `build_options` with the home folder in place of `~`.
        environment: What counts of the environment: variables that the builder reads by itself.
        folder: Where relative paths in `options` start.
    """

    context: Path
    dockerfile: Path
    text: str
    ignore: tuple[str, ...]
    build_args: dict[str, str]
    options: tuple[str, ...]
    environment: dict[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class Content:
    """What was found in the files that an image is built from.

    Attributes:
        digest: A hash of all that its build can see, except for the images that it starts from.
        files: Each file to what is known of it; another value means that it was touched.
    """

    digest: str
    files: Mapping[str, tuple[object, ...]] = field(default_factory=dict)

    def changed_in(self, other: Content) -> list[str]:
        """Return the files that are other ones there, came or went, sorted."""
        names = self.files.keys() | other.files.keys()
        return sorted(name for name in names if self.files.get(name) != other.files.get(name))


def read_source(image: Image, *, folder: Path) -> BuildSource:
    """Read what `image` is built from; relative paths start at `folder`.

    Raises:
        KindInfraError: A file cannot be read, or a build argument names a variable that is not set.
    """
    context = folder / image.context
    with _reading(image):
        dockerfile = _dockerfile_of(image, folder=folder)
        text = _read(dockerfile)
        return BuildSource(
            context=context,
            dockerfile=dockerfile,
            text=text,
            ignore=(*_ignore_lines(context, dockerfile), *image.ignore, *NEVER_SENT),
            build_args=_expanded(image),
            options=with_home(image.build_options),
            environment=_environment(image, text),
            folder=folder,
        )


def _dockerfile_of(image: Image, *, folder: Path) -> Path:
    """Return where the Dockerfile of `image` is; BuildKit takes one in small letters too."""
    if image.dockerfile:
        return folder / image.dockerfile
    usual, small = (folder / image.context / name for name in ("Dockerfile", "dockerfile"))
    return small if small.is_file() and not usual.exists() else usual


def argument_problems(image: Image) -> Iterator[str]:
    """Yield what is wrong with the variables in `build_args`, in this environment."""
    for name, value in image.build_args:
        for problem in expand(value, os.environ).problems:
            yield (
                f'[images.{image.name}] build_args.{name} is "{value}": {problem};'
                " set it, give a default (${NAME:-default}), or write $$ for a dollar sign"
            )


def bases_of(image: Image, source: BuildSource, *, names: Mapping[str, Sequence[str]]) -> Bases:
    """Return the other images, folders and layouts that `image` is built from.

    Args:
        image: The declared image.
        source: What `read_source` gave for it.
        names: Declared images that may be meant, to their further names.
    """
    arguments = arguments_of(image, source.build_args)
    return find_bases(image, source.text, build_args=arguments, names=names)


def content_of(image: Image, source: BuildSource, *, digests: Digests | None = None) -> Content:
    """Return what a build of `image` would see, except for the images that it starts from.

    Args:
        image: The declared image.
        source: What `read_source` gave for it.
        digests: Knows those of files that were read before.

    Raises:
        KindInfraError: A file of a context cannot be read.
    """
    digests = digests or Digests()
    digest = hashlib.sha256()
    settings = (source.text, sorted(source.build_args.items()), image.target, image.build_options)
    digest.update(repr(settings).encode())
    if source.environment:
        digest.update(repr(sorted(source.environment.items())).encode())
    seen: dict[str, tuple[object, ...]] = {}
    with _reading(image):
        _add(digest, seen, "", source.context, source.ignore, digests)
        further = bases_of(image, source, names={})
        for name, path in sorted(further.folders.items()):
            digest.update(os.fsencode(f"\0context {name}"))
            folder = source.folder / _without_home(path)
            rules = (*_lines_of(folder / ".dockerignore"), *NEVER_SENT)
            _add(digest, seen, f"{name}: ", folder, rules, digests)
        for name, value in sorted(further.layouts.items()):
            _add_layout(digest, seen, name, source.folder, value)
    return Content(digest.hexdigest(), seen)


def file_tag(path: Path, digests: Digests | None = None) -> str:
    """Return the context tag of an image that comes as a file or as a folder with an OCI layout.

    In a layout all is named by digests, so the index says what is in it.

    Raises:
        OSError: It cannot be read.
    """
    path = path / INDEX if path.is_dir() else path
    with (digests or Digests()).of(path.parent) as files:
        return context_tag(files.digest(path.name, path.stat()))


def write_ignore_file(source: BuildSource, *, into: Path) -> Path:
    """Write a copy of the Dockerfile with its ignore file next to it; return the copy's path.

    BuildKit prefers `NAME.dockerignore` next to the Dockerfile (docs.docker.com/build), which is
    how additions apply without a new file in the user's tree.
    """
    into.mkdir(parents=True, exist_ok=True)
    dockerfile = into / "Dockerfile"
    _write(dockerfile, source.text)
    _write(into / "Dockerfile.dockerignore", "\n".join(source.ignore) + "\n")
    return dockerfile


def _expanded(image: Image) -> dict[str, str]:
    if problems := tuple(argument_problems(image)):
        raise KindInfraError("\n".join(problems))
    return {name: expand(value, os.environ).text for name, value in image.build_args}


def _environment(image: Image, text: str) -> dict[str, str]:
    """Return the variables that count: for the platform, and for arguments without a value."""
    wanted = [name for name, value in build_arguments(image.build_options).items() if value is None]
    wanted += () if platform_of(image.build_options) else ("DOCKER_DEFAULT_PLATFORM",)
    # buildx makes an argument of it where the Dockerfile asks for one.
    wanted += ("SOURCE_DATE_EPOCH",) if "SOURCE_DATE_EPOCH" in text else ()
    return {name: os.environ[name] for name in wanted if os.environ.get(name)}


def _ignore_lines(context: Path, dockerfile: Path) -> tuple[str, ...]:
    """Return the user's ignore rules: the Dockerfile's own before the context's."""
    for path in (
        dockerfile.with_name(f"{dockerfile.name}.dockerignore"),
        context / ".dockerignore",
    ):
        if is_file(path):
            return _lines_of(path)
    return ()


def _lines_of(path: Path) -> tuple[str, ...]:
    """Return the lines of an ignore file as BuildKit parts them; none if there is no file."""
    if not path.is_file():
        return ()
    text = _read(path).removeprefix("\ufeff").removesuffix("\n")
    return tuple(line.rstrip("\r") for line in text.split("\n"))


def _without_home(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - a text becomes a text


def _add(
    digest: hashlib._Hash,
    seen: dict[str, tuple[object, ...]],
    prefix: str,
    folder: Path,
    ignore: Sequence[str],
    digests: Digests,
) -> None:
    """Add all that is sent of a folder to a hash, and to the digests."""
    with digests.of(folder) as files:
        for path, mode, content, identity in _files(folder, ignore, files):
            digest.update(os.fsencode(f"\0{path}\0{mode:o}\0{content}"))
            seen[f"{prefix}{path}"] = (mode, content, *identity)


def _add_layout(
    digest: hashlib._Hash,
    seen: dict[str, tuple[object, ...]],
    name: str,
    folder: Path,
    value: str,
) -> None:
    """Add an OCI layout: all in it is named by digests, so the index says what it holds."""
    whole = folder / _without_home(value)  # a path may have a colon itself
    path = whole if whole.is_dir() else folder / _without_home(layout_path(value))
    index = _digest((path / INDEX).read_bytes())
    digest.update(f"\0layout {name}\0{index}".encode())
    seen[f"{name}: {INDEX}"] = (index,)


def _files(
    context: Path, ignore: Sequence[str], files: FolderDigests
) -> Iterator[tuple[str, int, str, tuple[int, ...]]]:
    """Give path, mode, digest and identity of all that is sent, in one order everywhere.

    The identity of a file is another one after each change, also after one that was undone. That
    of a folder is left out: it changes with files in it that are not sent.
    """
    start = os.fspath(context)
    for path in _sent(context, "", IgnoreRules(ignore)):
        info = os.lstat(f"{start}/{path}")
        mode = info.st_mode
        if stat.S_ISLNK(mode):
            target = (context / path).readlink()
            yield path, stat.S_IFLNK, _digest(os.fsencode(target)), identity(info)
        elif stat.S_ISREG(mode):
            yield path, stat.S_IMODE(mode), files.digest(path, info), identity(info)
        elif stat.S_ISDIR(mode):
            is_git = path.rpartition("/")[2] == ".git"
            yield path, mode, _digest(_head(context / path)) if is_git else "", ()


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
        msg = f'image "{image.name}": cannot read its build context: {error}'
        raise KindInfraError(msg) from error


def _read(path: Path) -> str:
    """Return a file's text; bytes that are no UTF-8 come through `_write` unharmed."""
    return path.read_bytes().decode("utf-8", errors="surrogateescape")


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))

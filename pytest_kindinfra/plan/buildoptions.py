"""The flags in `build_options`: what they say of an image's content, and of paths.

Flags come as `--flag value`, `--flag=value`, `-f value` and `-fvalue`, as `docker buildx build`
takes them. Pure; it must not know engines.
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kindinfra.model import Image


_SHORT = {"-f": "--file", "-t": "--tag", "-o": "--output", "-m": "--memory", "-c": "--cpu-shares"}


_SHORT_SWITCHES = ("-q", "-D")


_SWITCHES = frozenset(
    (
        *("--check", "--compress", "--debug", "--disable-content-trust", "--force-rm", "--help"),
        *("--layers", "--load", "--no-cache", "--no-hostname", "--no-hosts", "--pull", "--push"),
        *("--quiet", "--rm", "--squash", "--squash-all", "--tls-verify"),
    )
)
"""Flags without a value: what comes after them is no value of theirs."""


_REFUSED = {
    "--file": "use the key dockerfile",
    "--target": "use the key target",
    "--call": "with this flag, nothing is built",
    "--check": "with this flag, nothing is built",
    "--print": "with this flag, nothing is built",
}


_IMAGE_SCHEMES = ("docker-image://", "container-image://", "docker://")


_LAYOUT_SCHEME = "oci-layout://"


_REMOTE = re.compile(
    r"https?://|git://|ssh://|git@|github\.com/|target:|[\w.+-]+@[\w.-]+:", re.IGNORECASE
)
"""As buildx takes them: util/urlutil, and dfgitutil for git."""


_LAYOUT = re.compile(
    r"(?P<path>.*?)(?::(?P<tag>[\w.-]{1,128}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


_PATH_IN_FIELD = re.compile(r'(?P<key>(?:^|[,"])(?:src|source|dest|path)=)(?P<home>~)(?=/|[,"]|$)')


_PATH_IN_KEY = re.compile(r"(?P<key>[=,])(?P<home>~)(?=/)")


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag with its value.

    Attributes:
        name: In its long form.
        value: None for a flag without one.
    """

    name: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class NamedContext:
    """A further context, `--build-context NAME=VALUE`.

    Attributes:
        name: What a Dockerfile calls it.
        kind: What it is: a folder, an image, an OCI layout, or something of the network.
        value: A path, a reference or a URL, without its scheme.
    """

    name: str
    kind: Literal["folder", "image", "layout", "remote"]
    value: str


def flags(options: Sequence[str]) -> tuple[Flag, ...]:
    """Return the flags in order."""
    return tuple(Flag(name, value) for name, value, _, _ in _parsed(options) if name)


def named_contexts(options: Sequence[str]) -> tuple[NamedContext, ...]:
    """Return the further contexts; of several with one name the last, as buildx takes it."""
    found: dict[str, NamedContext] = {}
    for flag in flags(options):
        if flag.name == "--build-context" and flag.value and "=" in flag.value:
            name, _, value = flag.value.partition("=")
            found[name] = _named_context(name, value)
    return tuple(found.values())


def build_arguments(options: Sequence[str]) -> dict[str, str | None]:
    """Return the values of `--build-arg`; None where the environment gives the value."""
    values = [flag.value for flag in flags(options) if flag.name == "--build-arg" and flag.value]
    pairs = [value.partition("=") for value in values]
    return {name: value if given else None for name, given, value in pairs}


def platform_of(options: Sequence[str]) -> str | None:
    """Return the value of `--platform`."""
    found = [flag.value for flag in flags(options) if flag.name == "--platform" and flag.value]
    return found[-1] if found else None


def builder_of(options: Sequence[str]) -> str | None:
    """Return the value of `--builder`."""
    found = [flag.value for flag in flags(options) if flag.name == "--builder" and flag.value]
    return found[-1] if found else None


def flags_by_key(image: Image) -> dict[str, tuple[str, ...]]:
    """Return the keys of an image that become flags, each with those that an engine must know."""
    return {
        "build_options": image.build_options,
        "cache_from": ("--cache-from=type=registry",) if image.cache_from else (),
        "cache_to": ("--cache-to=type=registry",) if image.cache_to else (),
    }


def option_problems(image: Image) -> Iterator[str]:
    """Yield what is wrong with an image's build options, whichever engine takes them."""
    place = f"[images.{image.name}] build_options:"
    for name, value, at, width in _parsed(image.build_options):
        written = " ".join(image.build_options[at : at + width])
        if " " in name:
            flag, _, rest = written.partition(" ")
            yield f'{place} "{written}" is one word: write "{flag}", "{rest.strip()}"'
        elif not name:
            yield f'{place} "{written}" is not a flag; for the build context, use the key context'
        elif name in _REFUSED:
            yield f'{place} "{written}" is not allowed: {_REFUSED[name]}'
        elif name not in _SWITCHES and value is None and name.startswith("--"):
            yield from _without_value(place, name)
        elif name == "--build-context" and "=" not in (value or ""):
            yield f'{place} "{written}" must be --build-context NAME=VALUE'
    if image.needs and builder_of(image.build_options) not in (None, "default"):
        yield (
            f'{place} "--builder {builder_of(image.build_options)}" may be a builder that cannot'
            " see the images in needs; remove it to use the engine's own builder"
        )
    yield from _named_twice(image, place)


def with_home(options: Sequence[str]) -> tuple[str, ...]:
    """Return the options with `~` at the start of a path replaced by the home folder."""
    return _changed(options, _expand_home)


def with_images(options: Sequence[str], image: Callable[[str], str | None]) -> tuple[str, ...]:
    """Return the options with other references in `--build-context NAME=docker-image://REF`.

    Args:
        options: As declared.
        image: From a reference to the one that takes its place, None if it stays.
    """

    def change(name: str, value: str) -> str:
        key, equals, what = value.partition("=")
        scheme = next((one for one in _IMAGE_SCHEMES if what.startswith(one)), "")
        if name != "--build-context" or not scheme:
            return value
        return (
            f"{key}{equals}{scheme}{image(what.removeprefix(scheme)) or what.removeprefix(scheme)}"
        )

    return _changed(options, change)


def layout_path(value: str) -> str:
    """Return the path in `PATH[:TAG][@DIGEST]`, which names an image of an OCI layout."""
    match = _LAYOUT.fullmatch(value)
    return match["path"] if match else value


def _named_context(name: str, value: str) -> NamedContext:
    for scheme in _IMAGE_SCHEMES:
        if value.startswith(scheme):
            return NamedContext(name, "image", value.removeprefix(scheme))
    if value.startswith(_LAYOUT_SCHEME):
        return NamedContext(name, "layout", value.removeprefix(_LAYOUT_SCHEME))
    if _REMOTE.match(value):
        return NamedContext(name, "remote", value)
    return NamedContext(name, "folder", value)


def _named_twice(image: Image, place: str) -> Iterator[str]:
    for context in named_contexts(image.build_options):
        if context.name in image.needs:
            yield (
                f'{place} "--build-context {context.name}=..." hides the image "{context.name}" in'
                " needs: keep one of them"
            )


def _without_value(place: str, name: str) -> Iterator[str]:
    if name in ("--build-context", "--build-arg", "--secret", "--platform", "--builder", "--ssh"):
        yield f"{place} {name} has no value"


def _expand_home(name: str, value: str) -> str:
    home = os.path.expanduser("~")  # noqa: PTH111 - a text becomes a text
    if name == "--build-context":
        key, equals, what = value.partition("=")
        scheme = _LAYOUT_SCHEME if what.startswith(_LAYOUT_SCHEME) else ""
        path = what.removeprefix(scheme)
        is_home = path == "~" or path.startswith("~/")
        return f"{key}{equals}{scheme}{home}{path[1:]}" if is_home else value
    if name in ("--secret", "--cache-from", "--cache-to", "--output"):
        return _PATH_IN_FIELD.sub(lambda match: f"{match['key']}{home}", value)
    if name == "--ssh":
        return _PATH_IN_KEY.sub(lambda match: f"{match['key']}{home}", value)
    if name in ("--metadata-file", "--iidfile") and value.startswith("~/"):
        return f"{home}{value[1:]}"
    return value


def _changed(options: Sequence[str], change: Callable[[str, str], str]) -> tuple[str, ...]:
    """Return the options with other values, each in the form in which it was written."""
    made: list[str] = []
    for name, value, at, width in _parsed(options):
        words = list(options[at : at + width])
        if name and value:
            words[-1] = f"{words[-1].removesuffix(value)}{change(name, value)}"
        made += words
    return tuple(made)


def _parsed(options: Sequence[str]) -> Iterator[tuple[str, str | None, int, int]]:
    """Yield name, value, index and number of words of each flag; no name for another word."""
    at = 0
    while at < len(options):
        name, value, width = _flag_at(options, at)
        yield name, value, at, width
        at += width


def _flag_at(options: Sequence[str], at: int) -> tuple[str, str | None, int]:
    word = options[at]
    following = options[at + 1] if at + 1 < len(options) else None
    if word.startswith("--"):
        name, given, value = word.partition("=")
    elif word.startswith("-") and len(word) > 1:
        name, value = _SHORT.get(word[:2], word[:2]), word[2:].removeprefix("=")
        given = value or word[2:]
    else:
        return "", None, 1
    if given:
        return name, value, 1
    # A flag that is not known here takes the next word, unless that is a flag itself.
    alone = name in _SWITCHES or name in _SHORT_SWITCHES or following is None
    if alone or (following or "").startswith("-"):
        return name, None, 1
    return name, following, 2

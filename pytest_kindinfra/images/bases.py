"""What an image is built from besides its own context: other images, folders, layouts.

Which declared image a reference in a Dockerfile means is decided here. Pure but for the
environment; it must not know engines.
"""

from __future__ import annotations

import os
import platform as this_machine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.images.dockerfile import platform_arguments, references, stage_names
from pytest_kindinfra.plan.buildoptions import build_arguments, named_contexts, platform_of
from pytest_kindinfra.references import is_meant_by, normalise, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kindinfra.model import Image


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "i686": "386"}


_LOCAL = "localhost/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bases:
    """What a Dockerfile and the build options name.

    Attributes:
        declared: Reference as written to the name of the declared image that it means.
        external: References of other images, each once.
        folders: Name of a further context to its folder as written.
        layouts: Name of a further context to its OCI layout as written: `PATH[:TAG][@DIGEST]`.
    """

    declared: dict[str, str] = field(default_factory=dict)
    external: tuple[str, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)
    layouts: dict[str, str] = field(default_factory=dict)


def find_bases(
    image: Image,
    text: str,
    *,
    build_args: Mapping[str, str],
    names: Mapping[str, Sequence[str]],
) -> Bases:
    """Return what `image` is built from.

    Args:
        image: A declared image.
        text: Its Dockerfile.
        build_args: Its build arguments with their values, those in `build_options` too.
        names: Declared images that may be meant, to their further names.
    """
    contexts = named_contexts(image.build_options)
    wanted = references(
        text,
        build_args=build_args,
        named=[one.name for one in contexts],
        platform=platform_arguments(target_platform(image), built_on=_this_platform()),
    )
    wanted += tuple(one.value for one in contexts if one.kind == "image")
    wanted += tuple(name for name in image.needs if name in stage_names(text))
    meant = {one: _declared(one, image, names) for one in dict.fromkeys(wanted)}
    return Bases(
        declared={reference: name for reference, name in meant.items() if name},
        external=tuple(reference for reference, name in meant.items() if not name),
        folders={one.name: one.value for one in contexts if one.kind == "folder"},
        layouts={one.name: one.value for one in contexts if one.kind == "layout"},
    )


def arguments_of(image: Image, declared: Mapping[str, str]) -> dict[str, str]:
    """Return all build arguments of an image: those in `build_options` come last and win.

    Args:
        image: A declared image.
        declared: Its `build_args`, expanded.
    """
    options = build_arguments(image.build_options)
    values = {
        name: os.environ.get(name) if value is None else value for name, value in options.items()
    }
    return {**declared, **{name: value for name, value in values.items() if value is not None}}


def target_platform(image: Image) -> str:
    """Return the platform that an image is built for: what a flag, a variable or this host says."""
    wanted = platform_of(image.build_options) or os.environ.get("DOCKER_DEFAULT_PLATFORM")
    if wanted:
        return wanted.partition(",")[0]
    return _this_platform()


def _this_platform() -> str:
    """Return the engine's platform; it is on this host, if in a virtual machine."""
    machine = this_machine.machine()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def _declared(reference: str, image: Image, names: Mapping[str, Sequence[str]]) -> str | None:
    """Return the declared image that a reference means.

    `NAME`, `localhost/NAME` with any tag, or one of its further names. `NAME:TAG` means it for an
    image that needs it. An image is never its own base: `FROM redis` in `[images.redis]` means the
    registry's.
    """
    for name, further in names.items():
        if name != image.name and _means(reference, name, further, needed=name in image.needs):
            return name
    return None


def _means(reference: str, name: str, further: Sequence[str], *, needed: bool) -> bool:
    full = normalise(reference)
    if any(is_meant_by(reference, one) for one in further) or full == normalise(name):
        return True
    repository, version = split(full)
    if "@" in full or ":" in version:
        return False  # the bare name with a digest is never that of a new build
    bare = split(normalise(name))[0]
    return repository == f"{_LOCAL}{name}" or (needed and repository == bare)

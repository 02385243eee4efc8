"""What is wrong with how images are built, as far as their Dockerfiles show it before any build.

It reads files, and must not know engines.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError, listed
from pytest_kindinfra.images.content import argument_problems, bases_of, read_source
from pytest_kindinfra.images.dockerfile import has_own_syntax
from pytest_kindinfra.images.expansion import expand
from pytest_kindinfra.plan.buildoptions import builder_of, option_problems
from pytest_kindinfra.references import has_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.images.bases import Bases
    from pytest_kindinfra.model import Image


def build_problems(images: Sequence[Image], *, folder: Path, prepared: bool) -> Iterator[str]:
    """Yield what is wrong with flags, arguments and needs of images that are built.

    Args:
        images: All declared images.
        folder: Where relative paths start.
        prepared: A hook is called before each build, which may set variables: what depends on them
            is not looked at.
    """
    names = {image.name: image.names for image in images}
    for image in images:
        if image.prebuilt or image.archive:
            continue
        yield from option_problems(image)
        wrong = tuple(argument_problems(image))
        asks = any(expand(value, os.environ).names for _, value in image.build_args)
        if prepared and asks:
            continue
        yield from wrong
        if not wrong:
            yield from _need_problems(image, folder, names)


def chosen_builder(image: Image, builder: str | None) -> tuple[str, ...]:
    """Return the flags for the builder of all images, none for an image that names its own."""
    if builder is None or builder_of(image.build_options):
        return ()
    return ("--builder", builder)


def unseen_bases(images: Sequence[Image], builder: str, *, pushed: bool) -> Iterator[str]:
    """Yield why a builder that has no images of the engine cannot build all declared images.

    Args:
        images: All declared images.
        builder: Its name.
        pushed: What is built is in a registry when others start from it.
    """
    out_of_reach = {
        image.name
        for image in images
        if not (has_digest(image.prebuilt) if image.prebuilt else pushed)
    }
    named = dict.fromkeys(name for image in images for name in image.needs)
    if unseen := [name for name in named if name in out_of_reach]:
        yield (
            f'the builder "{builder}" cannot see the images that others start FROM: '
            f"{listed(unseen)}; name a registry that it pulls them from (--kindinfra-registry), or "
            "build with the engine's own builder"
        )


def _need_problems(image: Image, folder: Path, names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the needs that a Dockerfile does not use, and the declared images that it uses alone.

    A missing Dockerfile may be made before the build.
    """
    with suppress(KindInfraError):
        source = read_source(image, folder=folder)
        if has_own_syntax(source.text):
            return
        found = bases_of(image, source, names=names)
        where = os.path.relpath(source.dockerfile, folder)
        yield from _unused(image, found, where, names)
        yield from _undeclared(image, found, where)


def _unused(
    image: Image, found: Bases, where: str, names: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    used = set(found.declared.values())
    for name in dict.fromkeys(image.needs):
        if name in names and name not in used:
            others = [reference for reference in found.external if reference]
            takes = f"; it uses {listed(others)}" if others else ""
            yield (
                f'[images.{image.name}] needs "{name}", but no FROM, COPY --from or RUN --mount of'
                f" {where} uses it{takes}: write FROM {name}, or remove it from needs"
            )


def _undeclared(image: Image, found: Bases, where: str) -> Iterator[str]:
    for reference, name in found.declared.items():
        if name not in image.needs:
            way_out = "" if "/" in reference else ", or add a tag if the registry's image is meant"
            yield (
                f'[images.{image.name}] {where} uses "{reference}", which is the image "{name}":'
                f' add "{name}" to needs{way_out}'
            )

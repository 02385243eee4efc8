"""How large the layers of a project's images were in earlier runs, in the user's cache folder.

By layers, since images share them: only so is known what several images take together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.cache import file_for, read, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Layers = dict[str, int]
"""Digest to bytes, unpacked or as they were sent."""


def read_sizes(cache: Path, folder: Path) -> dict[str, Layers]:
    """Return the layers of each image by what it is called: a declared name, or a full reference.

    Args:
        cache: The cache folder.
        folder: The project's.
    """
    kept, _ = read(file_for(cache, "sizes", folder))
    images = kept.get("images")
    found = images.items() if isinstance(images, dict) else ()
    return {name: _good(layers) for name, layers in found if isinstance(layers, dict)}


def keep_sizes(cache: Path, folder: Path, new: Mapping[str, Layers]) -> str | None:
    """Keep what was found out in a run; return why that was not possible.

    What this run did not load stays as it was.
    """
    if not new:
        return None
    images = {**read_sizes(cache, folder), **new}
    return write(
        file_for(cache, "sizes", folder), {"folder": str(folder.resolve()), "images": images}
    )


def _good(layers: Mapping[str, object]) -> Layers:
    return {digest: size for digest, size in layers.items() if isinstance(size, int) and size >= 0}

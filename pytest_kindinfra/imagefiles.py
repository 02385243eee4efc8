"""Images that come as files: what `docker save` wrote, packed or not, and OCI layouts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError
from pytest_kindinfra.ocilayout import is_layout, unpack, write_docker_archive

if TYPE_CHECKING:
    from pytest_kindinfra.engines.protocol import Engine
    from pytest_kindinfra.timeline import Deadline


def load_image_file(path: Path, reference: str, engine: Engine, deadline: Deadline) -> None:
    """Have the one image of a file in the engine, under `reference`.

    Args:
        path: An archive, or a folder with an OCI layout.
        reference: What the image is to be called, whatever it is called in there.
        engine: Who takes it.
        deadline: When to give up.

    Raises:
        CommandError: The engine cannot read it.
        KindInfraError: It holds several images, or none.
    """
    loaded = _load(path, reference, engine, deadline)
    if loaded != reference:
        engine.tag(loaded, reference, deadline)


def _load(path: Path, reference: str, engine: Engine, deadline: Deadline) -> str:
    if path.is_dir():
        return _load_layout(path, reference, engine, deadline)
    try:
        return engine.load(path, deadline)
    except CommandError:
        if not is_layout(path):  # looking first would cost a walk through each archive
            raise
    with tempfile.TemporaryDirectory(prefix="kindinfra-") as folder:
        unpack(path, Path(folder))
        return _load_layout(Path(folder), reference, engine, deadline)


def _load_layout(layout: Path, reference: str, engine: Engine, deadline: Deadline) -> str:
    with tempfile.TemporaryDirectory(prefix="kindinfra-") as folder:
        archive = Path(folder) / "image.tar"
        write_docker_archive(layout, reference, archive)
        return engine.load(archive, deadline)

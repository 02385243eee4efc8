"""Files with an image: archives of Docker and OCI layouts, as one that an engine can load."""

from __future__ import annotations

import io
import json
import platform
import sys
import tarfile
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_kindinfra.errors import CommandError, KindInfraError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kindinfra.protocols.engine import Engine
    from pytest_kindinfra.system.timeline import Deadline


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


INDEX = "index.json"


_INDEXES = ("vnd.oci.image.index", "vnd.docker.distribution.manifest.list")


_ZSTD = b"\x28\xb5\x2f\xfd"
"""How a frame begins (RFC 8878, 3.1.1)."""


_ATTESTATION = "vnd.docker.reference.type"


_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def is_layout(path: Path) -> bool:
    """Whether `path` is a folder with an OCI layout, or an archive of one alone.

    An archive that has Docker's `manifest.json` too is none: Docker loads that by itself.
    """
    if path.is_dir():
        return (path / INDEX).is_file()
    try:
        with _opened(path) as archive:
            names = {name.removeprefix("./") for name in archive.getnames()}
    except (OSError, tarfile.TarError, EOFError):
        return False
    return INDEX in names and "manifest.json" not in names


def unpack(archive: Path, into: Path) -> None:
    """Unpack an archive of a layout.

    Raises:
        KindInfraError: It cannot be read.
    """
    try:
        with _opened(archive) as file:
            file.extractall(into, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        msg = f'"{archive}" cannot be unpacked: {error}'
        raise KindInfraError(msg) from error


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive to be read once, packed or not."""
    with archive.open("rb") as file:
        packed = file.read(len(_ZSTD)) == _ZSTD
        file.seek(0)
        unpacked = _unpacked(file) if packed else nullcontext(file)
        with unpacked as plain, tarfile.open(fileobj=plain, mode="r|*") as opened:
            yield opened


@contextmanager
def _unpacked(file: BinaryIO) -> Iterator[Any]:
    """Unpack zstd, which Python does by itself from 3.14 on."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    try:
        with zstd.open(file) as plain:
            yield plain
    except zstd.ZstdError as error:
        raise tarfile.ReadError(str(error)) from error


def write_docker_archive(layout: Path, reference: str, archive: Path) -> None:
    """Write an archive of the one image in a layout, as `docker save` would.

    Args:
        layout: A folder.
        reference: What the image is to be called.
        archive: Where to write.

    Raises:
        KindInfraError: It is no layout, or has several images for this machine.
    """
    try:
        manifest = _manifest(layout)
        blobs = [manifest["config"]["digest"], *(one["digest"] for one in manifest["layers"])]
        config, *layers = map(_blob, blobs)
        described = [{"Config": config, "RepoTags": [reference], "Layers": layers}]
        with tarfile.open(archive, "w") as file:
            for name in dict.fromkeys([config, *layers]):
                file.add(layout / name, arcname=name)
            _add(file, "manifest.json", json.dumps(described).encode())
    except (OSError, ValueError, LookupError, TypeError) as error:
        msg = f'"{layout}" is no whole OCI layout: {error!r}'
        raise KindInfraError(msg) from error


def _manifest(layout: Path) -> dict[str, Any]:
    """Return the manifest of the one image for this machine."""
    index = _read(layout / INDEX)
    found = {one["digest"]: one for one in _images(layout, index)}
    if len(found) > 1:
        machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
        suits = {
            digest: one
            for digest, one in found.items()
            if one.get("platform", {}).get("architecture") == machine
        }
        found = suits or found
    if len(found) != 1:
        msg = f'"{layout}" holds {len(found)} images\nTo fix: one image in each layout'
        raise KindInfraError(msg)
    return _read(layout / _blob(next(iter(found))))


def _images(layout: Path, index: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what describes an image, in indexes within indexes too, but no attestation."""
    for one in index["manifests"]:
        if any(kind in one.get("mediaType", "") for kind in _INDEXES):
            yield from _images(layout, _read(layout / _blob(one["digest"])))
        elif _ATTESTATION not in (one.get("annotations") or {}):
            yield one


def _blob(digest: str) -> str:
    algorithm, _, hexadecimal = digest.partition(":")
    if not (algorithm.isalnum() and hexadecimal.isalnum()):  # it becomes a path
        msg = f"{digest!r} is no digest"
        raise ValueError(msg)
    return f"blobs/{algorithm}/{hexadecimal}"


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def _add(file: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    file.addfile(info, io.BytesIO(content))

"""A hash of what a release is made from, the same for the same however it came to be.

What helm packs and writes has times in it, so archives count by what is in them, and a lock file
does not count: what it names is there. It must not know what is made from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kindinfra.model import Helm

_HASH_DIGITS = 16
_NOT_HASHED = ("Chart.lock", "requirements.lock")
_PACKED = ".tgz"


def release_content(helm: Helm, *, chart: Path, values: Sequence[Path]) -> str:
    """Return a hash of a chart with its dependencies, of files of values, and of what was set."""
    found = hashlib.sha256(json.dumps(helm.set, sort_keys=True, default=str).encode())
    found.update(f"{helm.release}\0{helm.namespace}\0".encode())
    for name, content in _parts(chart, values):
        found.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    return found.hexdigest()[:_HASH_DIGITS]


def _parts(chart: Path, values: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of all that counts, in an order of its own."""
    for path in values:
        yield path.name, path.read_bytes()
    for path in sorted(_files(chart)) or [chart]:
        name = str(path.relative_to(chart))
        if path.suffix == _PACKED:
            yield from ((f"{name}/{inner}", content) for inner, content in _members(path))
        elif path.name not in _NOT_HASHED:
            yield name, path.read_bytes()


def _files(chart: Path) -> Iterator[Path]:
    """Yield the files of a chart as helm finds them: also behind links, such as a sub-chart's."""
    for text, folders, names in os.walk(chart, followlinks=True):
        folder = Path(text)
        # A link to a folder above would lead round and round.
        above = {parent.resolve() for parent in (folder, *folder.parents)}
        folders[:] = [one for one in folders if (folder / one).resolve() not in above]
        yield from (path for name in names if (path := folder / name).is_file())


def _members(archive: Path) -> list[tuple[str, bytes]]:
    """Return the files in a packed chart, sorted; one that is no archive helm complains about."""
    try:
        with tarfile.open(archive) as packed:
            files = [one for one in packed if one.isfile() and _counts(one.name)]
            return sorted((one.name, _read(packed, one)) for one in files)
    except tarfile.TarError:
        return [("", archive.read_bytes())]


def _counts(name: str) -> bool:
    return PurePosixPath(name).name not in _NOT_HASHED


def _read(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(member)
    return file.read() if file else b""

"""Image archives on their way through a pipe: to each reader without what that reader has.

Docker 25 and newer, and every OCI layout, name a blob in the archive by its digest
(opencontainers/image-spec, image-layout.md), so nothing has to be read twice or kept: what a
reader holds is passed over. Older archives go through whole. containerd takes an archive whose
blobs it has already (containerd#9554), and says `content digest ...: not found` if it has not.
"""

from __future__ import annotations

import json
import re
import tarfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.process import Sink

_CHUNK = 1 << 20
_BLOB = re.compile(r"blobs/(\w+)/([0-9a-f]+)")
_DESCRIPTION = "manifest.json"
_END = bytes(2 * tarfile.BLOCKSIZE)


class DeltaCopy:
    """Copies an archive to several sinks, to each without the blobs that it holds.

    Attributes:
        sizes: Digests of all blobs in the archive, as far as it was read, to their bytes.
        size: Bytes of the archive, as far as it was read.
    """

    def __init__(self, held: Sequence[frozenset[str]]) -> None:
        """Take for each sink, in their order, the digests that it holds."""
        self._held = held
        self.sizes: dict[str, int] = {}
        self.size = 0
        self._described = b""

    def __call__(self, source: IO[bytes], sinks: Sequence[Sink]) -> None:
        """Read `source` and write to `sinks`.

        Raises:
            tarfile.ReadError: It is no archive, or ends too early.
        """
        with tarfile.open(fileobj=source, mode="r|", bufsize=_CHUNK) as archive:
            for member in archive:
                self._copy(archive, member, sinks)
        self.size += len(_END)
        _write(sinks, _END)

    def layers(self) -> dict[str, dict[str, int]]:
        """Return the name of each image in the archive to its layers, digest to bytes.

        An archive that does not say so, or not in Docker's words, has none.
        """
        try:
            described = json.loads(self._described or b"[]")
            return {
                name: {
                    digest: self.sizes[digest]
                    for path in one["Layers"]
                    if (digest := _digest_in(path)) in self.sizes
                }
                for one in described
                for name in one["RepoTags"] or ()
            }
        except (ValueError, LookupError, TypeError):
            return {}

    def _copy(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, sinks: Sequence[Sink]
    ) -> None:
        """Copy one file; what nobody wants is passed over unread."""
        digest = _digest(member)
        wanted = [
            sink
            for sink, held in zip(sinks, self._held, strict=True)
            if digest is None or digest not in held
        ]
        self.size += tarfile.BLOCKSIZE + _padded(member.size)
        _write(wanted, member.tobuf(tarfile.GNU_FORMAT))
        if wanted and (content := archive.extractfile(member) if member.isreg() else None):
            while chunk := content.read(_CHUNK):
                _write(wanted, chunk)
                if member.name == _DESCRIPTION:
                    self._described += chunk
            _write(wanted, bytes(_padded(member.size) - member.size))
        if digest:
            self.sizes[digest] = member.size


def _digest(member: tarfile.TarInfo) -> str | None:
    """Return the digest of the blob that a file of the archive is."""
    return _digest_in(member.name) if member.isreg() else None


def _digest_in(name: str) -> str | None:
    """Return `sha256:0f1e...` of `blobs/sha256/0f1e...`."""
    found = _BLOB.fullmatch(name)
    return f"{found[1]}:{found[2]}" if found else None


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _write(sinks: Sequence[Sink], data: bytes) -> None:
    for sink in sinks:
        sink.write(data)

"""Image archives on their way through a pipe: to each reader without what that reader has.

Docker 25 and newer, and every OCI layout, name a blob in the archive by its digest
(opencontainers/image-spec, image-layout.md), so nothing has to be read twice or kept: what a
reader holds is passed over. Older archives go through whole. containerd takes an archive whose
blobs it has already (containerd#9554), and says `content digest ...: not found` if it has not.
"""

from __future__ import annotations

import re
import tarfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.process import Sink

_CHUNK = 1 << 20
_BLOB = re.compile(r"blobs/(\w+)/([0-9a-f]+)")
_END = bytes(2 * tarfile.BLOCKSIZE)


class DeltaCopy:
    """Copies an archive to several sinks, to each without the blobs that it holds.

    Attributes:
        digests: Those of all blobs in the archive, as far as it was read: `sha256:...`.
        size: Bytes of the archive, as far as it was read.
    """

    def __init__(self, held: Sequence[frozenset[str]]) -> None:
        """Take for each sink, in their order, the digests that it holds."""
        self._held = held
        self.digests: set[str] = set()
        self.size = 0

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
            _write(wanted, bytes(_padded(member.size) - member.size))
        if digest:
            self.digests.add(digest)


def _digest(member: tarfile.TarInfo) -> str | None:
    """Return the digest of the blob that a file of the archive is."""
    found = _BLOB.fullmatch(member.name) if member.isreg() else None
    return f"{found[1]}:{found[2]}" if found else None


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _write(sinks: Sequence[Sink], data: bytes) -> None:
    for sink in sinks:
        sink.write(data)

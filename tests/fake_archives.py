"""Image archives as `docker save` prints them, and kind nodes that read them as containerd does.

The archives are real ones in miniature: the OCI layout that Docker 25 and newer print.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import CommandError
from pytest_kindinfra.references import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.fakes import FakeProvider, Piped

NAME = "io.containerd.image.name"


def digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def tar(files: Iterable[tuple[str, bytes]], *, format: int = tarfile.GNU_FORMAT) -> bytes:  # noqa: A002
    """Return an archive of files, in that order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def files_of(archive: bytes) -> dict[str, bytes]:
    """Return what an archive holds, path to content."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {one.name: opened.extractfile(one).read() for one in opened}  # type: ignore[union-attr]


def manifest_of(layers: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return an image's configuration, and its manifest."""
    config = json.dumps({"rootfs": {"diff_ids": [digest(layer) for layer in layers]}}).encode()
    blobs = [{"digest": digest(layer)} for layer in layers]
    manifest = {"config": {"digest": digest(config)}, "layers": blobs}
    return config, json.dumps(manifest).encode()


def save(images: Mapping[str, Sequence[bytes]]) -> bytes:
    """Return the archive of images, each a reference and its layers."""
    blobs: dict[str, bytes] = {}
    entries, described = [], []
    for reference, layers in images.items():
        config, manifest = manifest_of(layers)
        blobs |= {digest(blob): blob for blob in (config, manifest, *layers)}
        name = {NAME: normalise(reference)}
        entries.append({"digest": digest(manifest), "annotations": name})
        paths = [path_of(digest(layer)) for layer in layers]
        described.append({"RepoTags": [reference], "Layers": paths})
    files = [(path_of(key), blobs[key]) for key in sorted(blobs)]
    index = ("index.json", json.dumps({"manifests": entries}).encode())
    return tar([*files, index, ("manifest.json", json.dumps(described).encode())])


def path_of(key: str) -> str:
    """Return where the blob of a digest is in an archive."""
    return f"blobs/{key.replace(':', '/')}"


@dataclass
class FakeContent:
    """An engine's images, and the content stores of the kind nodes that they are sent to.

    Attributes:
        provider: Lists what the kind nodes have; kept up to date.
        images: Reference to layers: what the engine has.
        stores: Kind node to its content: digest to blob.
        received: For each stream that came, the digests of its blobs.
    """

    provider: FakeProvider
    images: dict[str, list[bytes]]
    stores: dict[str, dict[str, bytes]] = field(default_factory=dict)
    received: list[tuple[str, set[str]]] = field(default_factory=list)

    def stream(self, piped: Piped) -> tuple[int, ...]:
        """Be `docker save | ctr images import` for each sink."""
        whole = save({reference: self.images[reference] for reference in piped.source[1:]})
        sinks = [io.BytesIO() for _ in piped.sinks]
        if piped.copy:
            piped.copy(io.BytesIO(whole), sinks)
        else:
            for sink in sinks:
                sink.write(whole)
        for argv, sink in zip(piped.sinks, sinks, strict=True):
            self._import(argv, sink.getvalue())
        return tuple(len(sink.getvalue()) for sink in sinks)

    def remove(self, node: str, blob: bytes) -> None:
        """Be somebody who removes a blob by hand."""
        del self.stores[node][digest(blob)]
        self.provider.blobs[node].discard(digest(blob))

    def blobs_received(self, *blobs: bytes) -> list[tuple[str, list[bytes]]]:
        """Return for each stream that came which of these blobs were in it."""
        return [
            (node, [blob for blob in blobs if digest(blob) in digests])
            for node, digests in self.received
        ]

    def _import(self, argv: tuple[str, ...], archive: bytes) -> None:
        node, files = argv[1], files_of(archive)
        came = {
            name.removeprefix("blobs/").replace("/", ":"): content
            for name, content in files.items()
            if name.startswith("blobs/")
        }
        self.received.append((node, {*came}))
        store = self.stores.setdefault(node, {})
        store.update(came)
        self.provider.blobs.setdefault(node, set()).update(came)
        for entry in json.loads(files["index.json"])["manifests"]:
            self._unpack(argv, entry, store)

    def _unpack(
        self, argv: tuple[str, ...], entry: dict[str, Any], store: dict[str, bytes]
    ) -> None:
        """Have the image listed, and only then see whether it is whole, as `ctr` does."""
        manifest = json.loads(self._read(argv, entry["digest"], store))
        self.provider.images.setdefault(argv[1], set()).add(entry["annotations"][NAME])
        for part in (manifest["config"], *manifest["layers"]):
            self._read(argv, part["digest"], store)

    @staticmethod
    def _read(argv: tuple[str, ...], wanted: str, store: dict[str, bytes]) -> bytes:
        if wanted not in store:
            output = f"ctr: content digest {wanted}: not found"
            raise CommandError(argv, exit_code=1, output=output, what="loading")
        return store[wanted]

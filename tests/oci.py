"""OCI layouts made by hand, to be loaded or refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def put_blob(layout: Path, content: bytes) -> dict[str, Any]:
    """Write a blob, and return what describes it."""
    digest = hashlib.sha256(content).hexdigest()
    path = layout / "blobs" / "sha256" / digest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def put_json(layout: Path, value: Any) -> dict[str, Any]:
    return put_blob(layout, json.dumps(value).encode())


def put_image(layout: Path, text: str, *, architecture: str = "amd64") -> dict[str, Any]:
    """Write an image of one file with that text, and return what describes it."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        info = tarfile.TarInfo("hello")
        info.size = len(text)
        file.addfile(info, io.BytesIO(text.encode()))
    layer = hashlib.sha256(tar.getvalue()).hexdigest()
    config = put_json(
        layout,
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        },
    )
    packed = put_blob(layout, gzip.compress(tar.getvalue(), mtime=0))
    manifest = put_json(layout, {"schemaVersion": 2, "config": config, "layers": [packed]})
    return {"mediaType": MANIFEST, **manifest, "platform": {"architecture": architecture}}


def put_index(layout: Path, *images: dict[str, Any]) -> Path:
    """Write the index, which makes it a layout."""
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": images}))
    return layout

"""A folder of images that one job of a pipeline built, for another one that does not build.

`kindinfra build --save=DIR` writes it: an archive for each image, and `manifest.json`, which says
what each is called and from which base images it was made. Those count for the content's tag; the
second job's engine need not have them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedImage:
    """One image.

    Attributes:
        reference: What it is called in its archive.
        file: The archive's name in the folder; None for one that others start from only.
        bases: The images of registries that it was built from, to their ids.
    """

    reference: str
    file: str | None
    bases: dict[str, str] = field(default_factory=dict)


def read_saved_images(folder: Path) -> dict[str, SavedImage]:
    """Return what a folder says that it has: declared name to image.

    Raises:
        KindInfraError: There is no such folder, or another program wrote it.
    """
    path = folder / MANIFEST
    try:
        images = json.loads(path.read_bytes())["images"]
        return {str(name): _image(one) for name, one in images.items()}
    except FileNotFoundError:
        problem = "no such file"
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        problem = f"not written by kindinfra build --save: {error!r}"
    msg = f"{path}: {problem}\nTo fix: kindinfra build --save={folder}"
    raise KindInfraError(msg)


def write_saved_images(folder: Path, images: Mapping[str, SavedImage]) -> None:
    """Say what the folder has; written last, when all of it is there."""
    records = {name: asdict(one) for name, one in sorted(images.items())}
    aside = folder / f".{MANIFEST}"
    aside.write_text(json.dumps({"images": records}, indent=1) + "\n")
    aside.replace(folder / MANIFEST)


def _image(record: Any) -> SavedImage:
    file = record["file"]
    if file is not None and file != Path(file).name:
        msg = f"{file!r} is no name of a file"
        raise ValueError(msg)
    bases = {str(name): str(one) for name, one in record["bases"].items()}
    return SavedImage(reference=str(record["reference"]), file=file, bases=bases)

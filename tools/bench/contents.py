"""What the images of the project are built from: made up in given sizes, or the example's.

A base image `bench-base` from the folder `base`, and an image of each service from the folder of
its name. All serve their `index.html`, which holds the salt, on port 8080.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLE = Path(__file__).parents[2] / "examples/kubernaut-mini/services"
_FOLDERS = ("datastorage", "mock-llm", "holmesgpt-api", "aianalysis")
"""Of the example's images, for the first services. The last service's is its base alone."""
_SERVE = 'ENTRYPOINT ["python3", "-m", "http.server", "8080", "--directory", "/www"]\n'


@dataclass(frozen=True)
class Sizes:
    """Megabytes of the layers that all share and of each image's own; CPU seconds of a build."""

    base_mb: int
    own_mb: int
    burn: float


def make_up(folder: Path, names: Sequence[str], salt: str, sizes: Sizes) -> None:
    """Write contexts of random bytes whose builds take processor time."""
    base = folder / "base"
    base.mkdir()
    (base / "blob").write_bytes(os.urandom(sizes.base_mb * 1_000_000))
    (base / "burn.py").write_text(_burning(sizes.burn))
    (base / "salt").write_text(salt)
    (base / "Dockerfile").write_text(
        "FROM python:3.11-slim\nCOPY blob burn.py salt /\nRUN python3 /burn.py\n"
    )
    for name in names:
        (folder / name).mkdir()
        (folder / name / "blob").write_bytes(os.urandom(sizes.own_mb * 1_000_000))
        _serve(folder / name, name, salt, "FROM bench-base\nCOPY blob /\nRUN python3 /burn.py\n")


def take_example(folder: Path, names: Sequence[str], salt: str) -> None:
    """Copy the example's contexts: their builds install packages and compile."""
    shutil.copytree(_EXAMPLE / "base", folder / "base")
    (folder / "base" / "salt").write_text(salt)
    dockerfile = folder / "base" / "Dockerfile"
    text = dockerfile.read_text()
    dockerfile.write_text(text.replace("\nWORKDIR", "\nCOPY salt /\nWORKDIR", 1))
    for name, theirs in zip(names, (*_FOLDERS, None), strict=True):
        built = "FROM base\n"
        if theirs:
            shutil.copytree(_EXAMPLE / theirs, folder / name)
            built = (folder / name / "Dockerfile").read_text()
        _serve(folder / name, name, salt, built.replace("FROM base", "FROM bench-base"))


def _serve(folder: Path, name: str, salt: str, dockerfile: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text(f"{name} {salt}")
    (folder / "Dockerfile").write_text(f"{dockerfile}COPY index.html /www/\n{_SERVE}")


def _burning(seconds: float) -> str:
    return dedent(f"""\
        import time
        end = time.process_time() + {seconds}
        while time.process_time() < end:
            pass
    """)

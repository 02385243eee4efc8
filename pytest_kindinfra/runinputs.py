"""What a Python step reads, as a hash: a step whose inputs are the same need not run again."""

from __future__ import annotations

import glob
import importlib.util
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.presence import is_file

if TYPE_CHECKING:
    from pytest_kindinfra.model import Service

_DIGITS = 16


def inputs_hash(service: Service, folder: Path) -> str:
    """Return a hash of a step's name, its module and its input files.

    Args:
        service: A service with `run`.
        folder: Where the patterns of `inputs` start, and where its module is looked for first.

    Returns:
        The hash, empty for a step that names no inputs: nobody knows what it reads.

    Raises:
        KindInfraError: A file cannot be read.
    """
    if not service.inputs:
        return ""
    total = sha256(str(service.run).encode())
    try:
        for path in [*_module_files(service, folder), *_input_files(service, folder)]:
            total.update(str(path).encode() + b"\0" + sha256(path.read_bytes()).digest())
    except OSError as error:
        msg = f"[services.{service.name}] inputs: {error}"
        raise KindInfraError(msg) from error
    return total.hexdigest()[:_DIGITS]


def _module_files(service: Service, folder: Path) -> list[Path]:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.find_spec(str(service.run).partition(":")[0])
    except (ImportError, ValueError):  # whoever calls it says what is wrong
        return []
    origin = Path(spec.origin) if spec and spec.origin else None
    return [origin] if origin and origin.is_file() else []


def _input_files(service: Service, folder: Path) -> list[Path]:
    """Return the files as `render.py` finds them, so that what was checked is what counts."""
    found = {pattern for pattern in service.inputs if is_file(folder / pattern)}
    for pattern in set(service.inputs) - found:
        found.update(glob.glob(pattern, root_dir=folder, recursive=True))  # noqa: PTH207 - keeps ".."
    return sorted(folder / name for name in found if is_file(folder / name))

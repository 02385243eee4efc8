"""Manifests: files of objects, which are read as they are and applied."""

from __future__ import annotations

import glob
import os.path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.objects import parse_objects
from pytest_kindinfra.plan.source import Source, SourceObjects
from pytest_kindinfra.system.files import read_text, why_no_file, why_no_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.plan.tables import Table


class Manifests(Source):
    """`manifests = ["FILE or PATTERN", ...]`."""

    key = "manifests"

    def read(self, service: str, table: Table) -> tuple[str, ...]:
        """Return the patterns."""
        return table.texts(self.key)

    def problems(self, value: Sequence[str], folder: Path) -> Iterator[str]:
        """Yield nothing: what is missing is known when the files are read."""
        yield from ()

    def render(
        self, value: Sequence[str], *, service: str, folder: Path, shared: Any
    ) -> SourceObjects:
        """Return the objects of all files that the patterns match, each file once."""
        objects: list[KubeObject] = []
        problems: list[str] = []
        paths: dict[str, None] = {}  # a set that keeps the order
        for pattern in value:
            if "://" in pattern:
                problems.append(_url_problem(pattern))
                continue
            matched = matching_files(pattern, folder)
            paths.update(dict.fromkeys(matched))
            if not matched:
                problems.append(f'manifests "{pattern}": {why_no_match(pattern, folder)}')
        for path in paths:
            read, wrong = _read_objects(folder, path)
            objects += read
            problems += wrong
        return SourceObjects(objects, problems)


def _url_problem(pattern: str) -> str:
    return (
        f'manifests "{pattern}": manifests are files; download it next to the others,'
        " or fetch it in a Python step with run"
    )


def matching_files(pattern: str, folder: Path) -> list[str]:
    """Return the files that a pattern matches, relative to `folder`, sorted."""
    pattern = os.path.expanduser(pattern)  # noqa: PTH111 - a pattern is no path
    if not why_no_file(folder / pattern):  # its name may have brackets
        return [pattern]
    found = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - keeps ".."
    return sorted(path for path in found if not why_no_file(folder / path))


def why_no_match(pattern: str, folder: Path) -> str:
    """Return why a pattern matches no file."""
    if not why_no_folder(folder / os.path.expanduser(pattern)):  # noqa: PTH111
        return f'that is a folder; write "{pattern.rstrip("/")}/*.yaml"'
    return why_no_file(folder / pattern) if glob.escape(pattern) == pattern else "matches no file"


def _read_objects(folder: Path, path: str) -> tuple[list[KubeObject], list[str]]:
    try:
        text = read_text(folder / path)
    except (OSError, ValueError) as error:
        return [], [f"{path}: {_why(error)}"]
    return parse_objects(text, source=path)


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

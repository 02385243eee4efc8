"""Kustomizations as objects; they are applied as manifests are."""

from __future__ import annotations

import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, ToolMissingError
from pytest_kindinfra.kube.objects import parse_objects
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.plan.source import Program, Source, SourceObjects
from pytest_kindinfra.system.files import read_text, why_no_file, why_no_folder
from pytest_kindinfra.system.getting import how_to_get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from pytest_kindinfra.model import Release
    from pytest_kindinfra.plan.source import RenderOptions
    from pytest_kindinfra.plan.tables import Table


_FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")


_PROGRAMS = {"kubectl": ("kubectl", "kustomize"), "kustomize": ("kustomize", "build")}


_PARTS = ("resources", "bases", "components")
"""The keys that may name folders outside of the kustomization's own."""


class Kustomize(Source):
    """`kustomize = "FOLDER"`."""

    key = "kustomize"
    program = Program(("kubectl", "version", "--client"), "kustomizations (or kustomize)")

    def read(self, service: str, table: Table) -> Path | None:
        """Return the folder."""
        return table.path(self.key)

    def problems(self, value: Path, folder: Path) -> Iterator[str]:
        """Yield what of a kustomization is missing."""
        if why := why_no_folder(folder / value):
            yield f'kustomize "{value}": {why}'
        elif all(why_no_file(folder / value / name) for name in _FILES):
            yield f'kustomize "{value}": a folder without kustomization.yaml is no kustomization'

    def prepare(
        self,
        values: Sequence[Path],
        *,
        folder: Path,
        options: RenderOptions | None,
        submit: Callable[..., Future[Any]],
    ) -> tuple[tuple[str, ...], RenderOptions]:
        """Return the words before a folder, and the options.

        Raises:
            ToolMissingError: There is neither kubectl nor kustomize.
        """
        assert options is not None  # noqa: S101 - there is a program
        return _command(options), options

    def render(self, value: Path, *, service: str, folder: Path, shared: Any) -> SourceObjects:
        """Return the objects of a kustomization.

        Raises:
            CommandError: It was not rendered.
        """
        command, options = shared
        what = f'rendering kustomization "{value}"'
        argv = [*command, str(folder / value)]
        done = options.runner.run(argv, deadline=options.deadline, what=what)
        return SourceObjects(*parse_objects(done.stdout, source=f'kustomization "{value}"'))

    def describe(self, value: Path, release: Release | None) -> str:
        """Name the folder."""
        return f"kustomization {value}"


def local_folders(folder: Path) -> set[Path]:
    """Return a kustomization's folder, and those of its bases and components on this host.

    A kustomization that cannot be read counts as one without bases.
    """
    found: set[Path] = set()
    waiting = [folder.resolve()]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            parts = [(here / part).resolve() for part in _parts(here)]
            waiting += [part for part in parts if part.is_dir()]
    return found


def _parts(folder: Path) -> Iterator[str]:
    path = next((folder / name for name in _FILES if not why_no_file(folder / name)), None)
    if path is None:
        return
    with suppress(OSError, ValueError, KindInfraError):
        for document in load_documents(read_text(path)):
            for key in _PARTS if isinstance(document, dict) else ():
                parts = document.get(key)
                yield from map(str, parts if isinstance(parts, list) else ())


def _command(options: RenderOptions) -> tuple[str, ...]:
    """Return the words before the folder.

    Where both programs are there, kubectl is tried: it may be too old for `kubectl kustomize`, or a
    version manager's stand-in for a version that is not installed.

    Raises:
        ToolMissingError: Neither program is there.
    """
    there = [words for program, words in _PROGRAMS.items() if shutil.which(program)]
    for words in there[:-1]:
        asked = options.runner.run([*words, "--help"], deadline=options.deadline, check=False)
        if asked.exit_code == 0:
            return words
    if there:
        return there[-1]
    msg = (
        '"kustomize" needs kubectl or kustomize, and neither is on PATH\n'
        f"To fix: {how_to_get('kubectl')}"
    )
    raise ToolMissingError(msg)

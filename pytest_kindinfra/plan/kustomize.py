"""Kustomizations as objects; they are applied as manifests are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ToolMissingError
from pytest_kindinfra.kube.objects import parse_objects
from pytest_kindinfra.plan.source import Program, Source, SourceObjects
from pytest_kindinfra.system.files import why_no_file, why_no_folder
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

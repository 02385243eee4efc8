"""Kustomizations as objects; they are applied as manifests are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import ToolMissingError
from pytest_kindinfra.kube.objects import parse_objects
from pytest_kindinfra.system.files import why_no_file, why_no_folder
from pytest_kindinfra.system.getting import how_to_get

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.plan.source import Templating


_FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")


_PROGRAMS = {"kubectl": ("kubectl", "kustomize"), "kustomize": ("kustomize", "build")}


def kustomization_problems(path: Path, folder: Path) -> Iterator[str]:
    """Yield what of a kustomization is not there."""
    if why := why_no_folder(folder / path):
        yield f'kustomize "{path}": {why}'
    elif all(why_no_file(folder / path / name) for name in _FILES):
        yield f'kustomize "{path}": a folder without kustomization.yaml is no kustomization'


def kustomize_command(how: Templating) -> tuple[str, ...]:
    """Return the words before the folder.

    Where both programs are there, kubectl is tried: it may be too old for `kubectl kustomize`, or a
    version manager's stand-in for a version that is not installed.

    Raises:
        ToolMissingError: Neither program is there.
    """
    there = [words for program, words in _PROGRAMS.items() if shutil.which(program)]
    for words in there[:-1]:
        asked = how.runner.run([*words, "--help"], deadline=how.deadline, check=False)
        if asked.exit_code == 0:
            return words
    if there:
        return there[-1]
    msg = (
        '"kustomize" needs kubectl or kustomize, and neither is on PATH\n'
        f"To fix: {how_to_get('kubectl')}"
    )
    raise ToolMissingError(msg)


def build_kustomization(
    path: Path, *, folder: Path, command: tuple[str, ...], how: Templating
) -> tuple[list[KubeObject], list[str]]:
    """Return the objects of a kustomization, and what is wrong with them.

    Raises:
        CommandError: It was not rendered.
    """
    what = f'rendering kustomization "{path}"'
    done = how.runner.run([*command, str(folder / path)], deadline=how.deadline, what=what)
    return parse_objects(done.stdout, source=f'kustomization "{path}"')

"""Read what a declaration points to: its own file, manifests, and whether other files exist.

The only part of resolving that reads files, so that everything after it is pure.
"""

from __future__ import annotations

import glob
import os.path
import tomllib
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.kindconfig import shape_problems
from pytest_kindinfra.kubeyaml import load_documents
from pytest_kindinfra.manifests import Rendered, applying_order, parse_objects
from pytest_kindinfra.presence import is_there, why_no_file, why_no_folder
from pytest_kindinfra.tables import shown
from pytest_kindinfra.textfiles import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.charts import Templating
    from pytest_kindinfra.model import Declaration, Image, KubeObject, Service

__all__ = ["Rendered", "check_files", "load_kind_config", "load_tables", "read_toml", "render"]

DECLARATION_FILE = "kindinfra.toml"
PROJECT_FILE = "pyproject.toml"


def load_tables(folder: Path) -> tuple[Mapping[str, Any], str] | None:
    """Return the declaration's tables and its file's name, or None if `folder` has none.

    Raises:
        DeclarationError: Both files have one, or a file is no TOML.
    """
    own = read_toml(folder / DECLARATION_FILE)
    tool = (read_toml(folder / PROJECT_FILE) or {}).get("tool")
    shared = tool.get("kindinfra") if isinstance(tool, dict) else None
    if own is not None and shared is not None:
        problem = f"{DECLARATION_FILE} and [tool.kindinfra] in {PROJECT_FILE}: keep one of them"
        raise DeclarationError([problem])
    if own is not None:
        return own, DECLARATION_FILE
    if shared is not None and not isinstance(shared, dict):
        problem = f"{PROJECT_FILE}: tool.kindinfra must be a table, not {shown(shared)}"
        raise DeclarationError([problem])
    return None if shared is None else (shared, PROJECT_FILE)


def load_kind_config(path: Path) -> dict[str, Any]:
    """Return a kind config as parsed; an empty file is an empty config.

    Raises:
        DeclarationError: It cannot be read, or has not a kind config's outline.
    """
    try:
        documents = [part for part in load_documents(read_text(path)) if part is not None]
    except (OSError, ValueError) as error:
        raise DeclarationError([f"{path.name}: {_reason(error)}"]) from error
    if len(documents) > 1 or not all(isinstance(part, dict) for part in documents):
        raise DeclarationError([f"{path.name}: a kind config is one document with keys"])
    config: dict[str, Any] = documents[0] if documents else {}
    if problems := shape_problems(config):
        raise DeclarationError(f"{path.name}: {problem}" for problem in problems)
    return config


def read_toml(path: Path) -> dict[str, Any] | None:
    """Return a TOML file's tables, None if there is no such file.

    Raises:
        DeclarationError: It cannot be read, or is no TOML.
    """
    try:
        if not is_there(path):
            return None
        return tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:  # tomllib's text ends with line and column
        raise DeclarationError([f"{path.name}: {_reason(error)}"]) from error


def render(services: Iterable[Service], *, folder: Path, how: Templating | None = None) -> Rendered:
    """Read the manifests of all `services`, and have their charts and kustomizations rendered.

    Args:
        services: All declared ones.
        folder: Where relative paths start.
        how: Who renders; needed if there is a chart or a kustomization.
    """
    from pytest_kindinfra.templates import Templates, template_all  # programs, threads

    wanted = tuple(services)
    templated = Templates() if how is None else template_all(wanted, folder=folder, how=how)
    objects: dict[str, tuple[KubeObject, ...]] = {}
    problems: list[str] = []
    for service in wanted:
        own, found = _read_manifests(service, folder)
        found += templated.problems.get(service.name, ())
        problems += found
        if not found and service.name not in templated.problems:
            made = (*own, *templated.objects.get(service.name, ()))
            objects[service.name] = tuple(applying_order(made))
    return Rendered(objects, (*templated.missing, *problems), templated.releases)


def _read_manifests(service: Service, folder: Path) -> tuple[list[KubeObject], list[str]]:
    place = f"[services.{service.name}]"
    objects: list[KubeObject] = []
    problems: list[str] = []
    paths: dict[str, None] = {}  # a set that keeps the order
    for pattern in service.manifests:
        if "://" in pattern:
            problems.append(_url_problem(place, pattern))
            continue
        found = _matches(pattern, folder)
        paths.update(dict.fromkeys(found))
        if not found:
            problems.append(f'{place} manifests "{pattern}": {_nothing_there(pattern, folder)}')
    for path in paths:
        read, wrong = _read_objects(folder, path)
        objects += read
        problems += [f"{place} {problem}" for problem in wrong]
    return objects, problems


def _url_problem(place: str, pattern: str) -> str:
    return (
        f'{place} manifests "{pattern}": manifests are files; save it beside the others,'
        " or fetch it in a Python step with run"
    )


def _matches(pattern: str, folder: Path) -> list[str]:
    """Return the files that a pattern matches, relative to `folder`, sorted."""
    pattern = os.path.expanduser(pattern)  # noqa: PTH111 - a pattern is no path
    if not why_no_file(folder / pattern):  # its name may have brackets
        return [pattern]
    found = glob.glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - keeps ".."
    return sorted(path for path in found if not why_no_file(folder / path))


def _nothing_there(pattern: str, folder: Path) -> str:
    if not why_no_folder(folder / os.path.expanduser(pattern)):  # noqa: PTH111
        return f'that is a folder; write "{pattern.rstrip("/")}/*.yaml"'
    return why_no_file(folder / pattern) if glob.escape(pattern) == pattern else "matches no file"


def _read_objects(folder: Path, path: str) -> tuple[list[KubeObject], list[str]]:
    try:
        text = read_text(folder / path)
    except (OSError, ValueError) as error:
        return [], [f"{path}: {_reason(error)}"]
    return parse_objects(text, source=path)


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def check_files(declaration: Declaration) -> list[str]:
    """Return a problem for each file or folder that is declared but not there."""
    return [
        *_check_cluster(declaration),
        *(problem for image in declaration.images for problem in _check_image(image, declaration)),
        *(problem for one in declaration.services for problem in _check_inputs(one, declaration)),
    ]


def _check_cluster(declaration: Declaration) -> Iterator[str]:
    config = declaration.cluster.config
    if config is not None and (why := why_no_file(declaration.folder / config)):
        yield f'[cluster] config "{config}": {why}'


def _check_image(image: Image, declaration: Declaration) -> Iterator[str]:
    place, folder = f"[images.{image.name}]", declaration.folder
    if image.archive is not None:
        yield from _check_archive(place, folder, image.archive)
    if image.archive is not None or image.prebuilt is not None:
        return
    if why := why_no_folder(folder / image.context):
        yield f'{place} context "{image.context}": {why}'
        if image.dockerfile is None:
            return
    dockerfile = image.dockerfile or image.context / "Dockerfile"
    if why := why_no_file(folder / dockerfile):
        yield f'{place} dockerfile "{dockerfile}": {why}'


def _check_archive(place: str, folder: Path, archive: Path) -> Iterator[str]:
    if not why_no_folder(folder / archive):
        if why_no_file(folder / archive / "index.json"):
            yield f'{place} archive "{archive}": a folder without index.json is no OCI layout'
    elif why := why_no_file(folder / archive):
        yield f'{place} archive "{archive}": {why}'


def _check_inputs(service: Service, declaration: Declaration) -> Iterator[str]:
    for pattern in service.inputs:
        if not _matches(pattern, declaration.folder):
            nothing = _nothing_there(pattern, declaration.folder)
            yield f'[services.{service.name}] inputs "{pattern}": {nothing}'

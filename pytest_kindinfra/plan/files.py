"""The files of a declaration: where it is read from, its kind config, and what it names.

Each process of pytest calls `load_tables`: it imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.system.files import is_there, read_text, why_no_file, why_no_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pytest_kindinfra.model import Declaration, Image, Service


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
        from pytest_kindinfra.plan.tables import shown

        problem = f"{PROJECT_FILE}: tool.kindinfra must be a table, not {shown(shared)}"
        raise DeclarationError([problem])
    return None if shared is None else (shared, PROJECT_FILE)


def load_kind_config(path: Path) -> dict[str, Any]:
    """Return a kind config as parsed; an empty file is an empty config.

    Raises:
        DeclarationError: It cannot be read, or has not a kind config's outline.
    """
    from pytest_kindinfra.kube.yaml import load_documents

    try:
        documents = [part for part in load_documents(read_text(path)) if part is not None]
    except (OSError, ValueError) as error:
        raise DeclarationError([f"{path.name}: {_reason(error)}"]) from error
    if len(documents) > 1 or not all(isinstance(part, dict) for part in documents):
        raise DeclarationError([f"{path.name}: a kind config is one document with keys"])
    config: dict[str, Any] = documents[0] if documents else {}
    if problems := _shape_problems(config):
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
        import tomllib

        return tomllib.loads(read_text(path))
    except (OSError, ValueError) as error:  # tomllib's text ends with line and column
        raise DeclarationError([f"{path.name}: {_reason(error)}"]) from error


def is_ipv6(base: Mapping[str, Any] | None) -> bool:
    """Whether the pods and k8s services of a cluster have IPv6 addresses alone."""
    return str(((base or {}).get("networking") or {}).get("ipFamily", "")).lower() == "ipv6"


def _shape_problems(base: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the outline of a user's config; all else is kind's to say."""
    problems = []
    if base.get("kind", "Cluster") != "Cluster":
        problems.append(f'kind is "{base["kind"]}", but must be "Cluster"')
    if not _is_list_of(base.get("nodes"), dict):
        return [*problems, "nodes must be a list of tables"]
    for number, holder in enumerate((base, *(base.get("nodes") or ()))):
        place = f"node {number}: " if number else ""
        lists = {"extraMounts": dict, "extraPortMappings": dict, "kubeadmConfigPatches": str}
        for key, kind in lists.items():
            if not _is_list_of(holder.get(key), kind):
                noun = "strings" if kind is str else "tables"
                problems.append(f"{place}{key} must be a list of {noun}")
    return problems


def _is_list_of(value: Any, kind: type) -> bool:
    return value is None or (
        isinstance(value, list) and all(isinstance(part, kind) for part in value)
    )


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
    from pytest_kindinfra.plan.manifests import matching_files, why_no_match

    for pattern in service.inputs:
        if not matching_files(pattern, declaration.folder):
            why = why_no_match(pattern, declaration.folder)
            yield f'[services.{service.name}] inputs "{pattern}": {why}'

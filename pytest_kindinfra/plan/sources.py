"""The files of a declaration: where objects come from, and how they are rendered."""

from __future__ import annotations

import glob
import os.path
import tomllib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindinfra.errors import DeclarationError, KindInfraError, listed
from pytest_kindinfra.kube.objects import Rendered, applying_order, parse_objects
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.plan.helm import (
    chart_problems,
    completed_chart,
    helm_version,
    plan_release,
    told,
)
from pytest_kindinfra.plan.kustomize import (
    build_kustomization,
    kustomization_problems,
    kustomize_command,
)
from pytest_kindinfra.plan.tables import shown
from pytest_kindinfra.system.files import is_there, read_text, why_no_file, why_no_folder
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.programs import which

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

    from pytest_kindinfra.model import Declaration, Helm, Image, KubeObject, Release, Service
    from pytest_kindinfra.plan.source import Templating

    Made = tuple[Iterable[KubeObject], Release | None, list[str]]


def is_ipv6(base: Mapping[str, Any] | None) -> bool:
    """Whether the pods and k8s services of a cluster have IPv6 addresses alone."""
    return str(((base or {}).get("networking") or {}).get("ipFamily", "")).lower() == "ipv6"


def shape_problems(base: Mapping[str, Any]) -> list[str]:
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


T = TypeVar("T")


_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Templates:
    """What became of charts and kustomizations.

    Attributes:
        objects: Service to the objects that they made.
        releases: Service to its chart's release.
        problems: Service to what is wrong.
        missing: A sentence for each program that is needed and not there.
    """

    objects: dict[str, list[KubeObject]] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def template_all(services: Iterable[Service], *, folder: Path, how: Templating) -> Templates:
    """Render what services have of charts and kustomizations, and say all that is wrong."""
    made = Templates()
    wanted = [one for one in services if one.helm or one.kustomize]
    if not wanted:
        return made
    from concurrent.futures import ThreadPoolExecutor  # each pytest process loads this module

    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="kindinfra-render") as pool:
        try:
            jobs = [*_charts(wanted, folder, how, pool, made)]
            jobs += _kustomizations(wanted, folder, how, pool, made)
            for service, job in jobs:
                _take(service, job, made)
        except BaseException:  # Ctrl-C: programs are ended, then threads
            how.deadline.cancelled.set()
            raise
    return made


def _charts(
    services: list[Service],
    folder: Path,
    how: Templating,
    pool: ThreadPoolExecutor,
    made: Templates,
) -> Iterator[tuple[Service, Future[Made]]]:
    charts = {one.name: one.helm for one in services if one.helm}
    if not charts or not _found(partial(which, "helm", fix=how_to_get("helm")), charts, made):
        return
    sound = [one for one in services if one.helm and _is_sound(one, one.helm, folder, made)]
    version = pool.submit(helm_version, how)
    # helm cannot complete one chart twice at a time.
    folders = {
        path: pool.submit(completed_chart, path, how)
        for path in {(folder / one.helm.chart).resolve() for one in sound if one.helm}
    }
    for service in sound:
        if service.helm:
            chart = folders[(folder / service.helm.chart).resolve()]
            yield (
                service,
                pool.submit(_release, service.name, service.helm, folder, chart, version, how),
            )


def _release(
    name: str,
    helm: Helm,
    folder: Path,
    chart: Future[Path],
    version: Future[str],
    how: Templating,
) -> Made:
    release, problems = plan_release(
        helm,
        service=name,
        folder=folder,
        chart=chart.result(),
        version=version.result(),
        how=how,
    )
    return release.objects, release, problems


def _kustomizations(
    services: list[Service],
    folder: Path,
    how: Templating,
    pool: ThreadPoolExecutor,
    made: Templates,
) -> Iterator[tuple[Service, Future[Made]]]:
    wanted = {one.name: one.kustomize for one in services if one.kustomize}
    command = _found(partial(kustomize_command, how), wanted, made) if wanted else None
    if command is None:
        return
    for service in services:
        if (path := service.kustomize) is None:
            continue
        if problems := list(kustomization_problems(path, folder)):
            _complain(service, problems, made)
        else:
            yield service, pool.submit(_kustomized, path, folder, command, how)


def _kustomized(path: Path, folder: Path, command: tuple[str, ...], how: Templating) -> Made:
    objects, problems = build_kustomization(path, folder=folder, command=command, how=how)
    return objects, None, problems


def _found(find: Callable[[], T], wanted: Iterable[str], made: Templates) -> T | None:
    """Return what finds a program; if there is none, it is missing for the wanted services."""
    try:
        return find()
    except KindInfraError as error:
        names = list(wanted)
        made.missing.append(f"{_of(names)}: {told(error)}")
        for name in names:
            made.problems.setdefault(name, [])
        return None


def _of(names: list[str]) -> str:
    return f"[services.{names[0]}]" if len(names) == 1 else f"services {listed(names)}"


def _is_sound(service: Service, helm: Helm, folder: Path, made: Templates) -> bool:
    problems = list(chart_problems(helm, folder))
    if problems:
        _complain(service, problems, made, part=".helm")
    return not problems


def _complain(service: Service, problems: list[str], made: Templates, *, part: str = "") -> None:
    place = f"[services.{service.name}{part}]"
    made.problems.setdefault(service.name, []).extend(f"{place} {one}" for one in problems)


def _take(service: Service, job: Future[Made], made: Templates) -> None:
    try:
        objects, release, problems = job.result()
    except KindInfraError as error:
        _complain(service, [told(error)], made)
        return
    made.objects.setdefault(service.name, []).extend(objects)
    if release is not None:
        made.releases[service.name] = release
    if problems:
        _complain(service, problems, made)


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

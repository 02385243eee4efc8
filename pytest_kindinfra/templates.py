"""All charts and kustomizations of a declaration, rendered side by side by their own tools.

What is wrong with one keeps none of the others from being looked at. It must not know how helm or
kustomize are called.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pytest_kindinfra.chartfolders import completed_chart
from pytest_kindinfra.charts import chart_problems, helm_version, plan_release, told
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kustomizations import (
    build_kustomization,
    kustomization_problems,
    kustomize_command,
)
from pytest_kindinfra.process import which
from pytest_kindinfra.suggestions import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from pytest_kindinfra.charts import Templating
    from pytest_kindinfra.model import Helm, KubeObject, Release, Service

    Made = tuple[Iterable[KubeObject], Release | None, list[str]]

T = TypeVar("T")

_AT_A_TIME = 4
_HELM_FIX = "install helm 3 or 4 (https://helm.sh/docs/intro/install)"


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
    if not charts or not _found(partial(which, "helm", fix=_HELM_FIX), charts, made):
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

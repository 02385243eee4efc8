"""The kinds of sources, and the objects of all services that come from them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, indent, listed
from pytest_kindinfra.kube.objects import Rendered, applying_order
from pytest_kindinfra.model import Service
from pytest_kindinfra.plan.helm import Chart
from pytest_kindinfra.plan.kustomize import Kustomize
from pytest_kindinfra.plan.manifests import Manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject, Plan, Release
    from pytest_kindinfra.plan.source import RenderOptions, Source, SourceObjects
    from pytest_kindinfra.plan.tables import Table


SOURCES: dict[str, Source] = {
    source.key: source
    for source in (
        Manifests(),
        Kustomize(),
        Chart(),
    )
}
"""Key in `[services.NAME]` to the kind of source."""


_AT_A_TIME = 4


_OWN_FIELDS = frozenset(one.name for one in fields(Service))


def read_sources(service: str, table: Table) -> dict[str, Any]:
    """Return the fields of a `Service` about its sources.

    Args:
        service: The service's name.
        table: The service's; gets what is wrong.
    """
    values = {key: source.read(service, table) for key, source in SOURCES.items()}
    further = {key: value for key, value in values.items() if key not in _OWN_FIELDS and value}
    own = {key: value for key, value in values.items() if key in _OWN_FIELDS}
    return {**own, "sources": further, "helm_first": _installed_first(table)}


def restore_sources(read: Service, record: Service) -> Service:
    """Return a service that was read of a hook's record, with what no declaration can say."""
    own = {
        key: source.restore(getattr(read, key), getattr(record, key))
        for key, source in SOURCES.items()
        if key in _OWN_FIELDS
    }
    return replace(read, **own)


def has_source(table: Table) -> bool:
    """Whether the table of a service names a source; wrong values count too."""
    return any((value := table.raw(key)) or isinstance(value, dict) for key in SOURCES)


def describe_sources(service: Service, plan: Plan) -> str:
    """Return what a service's objects are rendered from; empty for plain manifests."""
    release = plan.releases.get(service.name)
    texts = [SOURCES[key].describe(value, release) for key, value in _declared(service)]
    return "".join(f", {text}" for text in texts if text)


def _declared(service: Service) -> list[tuple[str, Any]]:
    """Return the kinds of sources that a service has, each with its value."""
    values = ((key, _value(service, key)) for key in SOURCES)
    return [(key, value) for key, value in values if value]


def _value(service: Service, key: str) -> Any:
    return getattr(service, key) if key in _OWN_FIELDS else service.sources.get(key)


def _installed_first(table: Table) -> bool:
    """Whether what is installed comes before what is applied; it cannot be in the middle."""
    keys = [key for key in table.written if key in SOURCES]
    for key in keys[1:-1]:
        if SOURCES[key].is_installed:
            table.complain(
                f"has {key} between {keys[0]} and {keys[2]}, which are applied together:"
                " write it before or after both"
            )
    return len(keys) > 1 and SOURCES[keys[0]].is_installed


@dataclass(frozen=True, slots=True)
class _Results:
    """What became of the sources so far.

    Attributes:
        objects: Service to the objects that were made.
        releases: Service to its release.
        problems: Service to what is wrong; one with an empty list has unknown objects.
        missing: A sentence for each program that is needed and not there.
    """

    objects: dict[str, list[KubeObject]] = field(default_factory=dict)
    releases: dict[str, Release] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def complain(self, service: str, problems: Iterable[str], *, part: str = "") -> None:
        """Note what is wrong with a source."""
        texts = [f"[services.{service}{part}] {problem}" for problem in problems]
        if texts:
            self.problems.setdefault(service, []).extend(texts)

    def take(self, service: str, result: Future[SourceObjects]) -> None:
        """Note what one source of a service came to, once it is known."""
        try:
            made = result.result()
        except KindInfraError as error:
            self.complain(service, [_problem_of(error)])
            return
        self.objects.setdefault(service, []).extend(made.objects)
        self.complain(service, made.problems)
        if made.release is not None:
            self.releases[service] = made.release


def render(
    services: Iterable[Service], *, folder: Path, options: RenderOptions | None = None
) -> Rendered:
    """Return the objects of all services, from all of their sources.

    Args:
        services: All declared ones.
        folder: Where relative paths start.
        options: How to render; None leaves out the sources that need a program.
    """
    declared, results = tuple(services), _Results()
    kinds: dict[str, dict[str, Any]] = {}  # in the order of services, for messages
    for service in declared:
        for key, value in _declared(service):
            kinds.setdefault(key, {})[service.name] = value
    programs = {key: kinds.pop(key) for key in list(kinds) if SOURCES[key].program}
    for name, result in _begin(kinds, folder, None, _at_once, results):
        results.take(name, result)
    if programs and options is not None:
        _render_in_threads(programs, folder, options, results)
    problems = [text for one in declared for text in results.problems.get(one.name, ())]
    objects = {
        one.name: tuple(applying_order(results.objects.get(one.name, [])))
        for one in declared
        if one.name not in results.problems
    }
    return Rendered(objects, (*results.missing, *problems), results.releases)


def _render_in_threads(
    kinds: dict[str, dict[str, Any]], folder: Path, options: RenderOptions, results: _Results
) -> None:
    from concurrent.futures import ThreadPoolExecutor  # each pytest process loads this module

    with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="kindinfra-render") as pool:
        try:
            for name, result in list(_begin(kinds, folder, options, pool.submit, results)):
                results.take(name, result)
        except BaseException:  # Ctrl-C: programs are ended, then threads
            options.deadline.cancelled.set()
            raise


def _begin(
    kinds: dict[str, dict[str, Any]],
    folder: Path,
    options: RenderOptions | None,
    submit: Callable[..., Future[Any]],
    results: _Results,
) -> Iterator[tuple[str, Future[SourceObjects]]]:
    """Submit the rendering of each sound source, and yield it with its service's name."""
    for key, values in kinds.items():
        source = SOURCES[key]
        sound: dict[str, Any] = {}
        for name, value in values.items():
            problems = list(source.problems(value, folder))
            results.complain(name, problems, part=f".{key}" if source.is_table else "")
            sound |= {} if problems else {name: value}
        try:
            shared = source.prepare(
                list(sound.values()), folder=folder, options=options, submit=submit
            )
        except KindInfraError as error:
            results.missing.append(f"{_of(list(values))}: {_problem_of(error)}")
            for name in values:
                results.problems.setdefault(name, [])
            continue
        for name, value in sound.items():
            yield name, submit(source.render, value, service=name, folder=folder, shared=shared)


def _at_once(function: Callable[..., Any], /, *args: Any, **given: Any) -> Future[Any]:
    """Call a function in this thread, as a pool would in another."""
    from concurrent.futures import Future

    future: Future[Any] = Future()
    try:
        future.set_result(function(*args, **given))
    except KindInfraError as error:
        future.set_exception(error)
    return future


def _of(names: list[str]) -> str:
    return f"[services.{names[0]}]" if len(names) == 1 else f"services {listed(names)}"


def _problem_of(error: KindInfraError) -> str:
    """Return an error as a problem of a declaration: its further lines are indented below it."""
    first, _, rest = str(error).partition("\n")
    return f"{first}\n{indent(rest)}" if rest else first

"""Charts as sources: what `helm` of a service says, and the objects that helm renders from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.objects import Written, group, parse_objects, place_of, pod_templates
from pytest_kindinfra.kube.rewrite import filled, mentioned
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.model import Helm, Release
from pytest_kindinfra.plan.charts import HELM_ENVIRONMENT, completed_chart, release_content
from pytest_kindinfra.plan.options import expand_path
from pytest_kindinfra.plan.repositories import (
    RemoteChart,
    problems_of_remote,
    pulled_chart,
    remote_chart,
)
from pytest_kindinfra.plan.source import Program, Source, SourceObjects
from pytest_kindinfra.plan.tables import Table, keys_of, shown
from pytest_kindinfra.references import stand_in
from pytest_kindinfra.system.files import read_text, why_no_file, why_no_folder, write_private
from pytest_kindinfra.system.getting import how_to_get
from pytest_kindinfra.system.programs import which

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.plan.source import RenderOptions


_RELEASE = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")


_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


_DOT = re.compile(r"(?<!\\)\.")


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the charts of a run share: helm's version, and each chart with its dependencies.

    helm cannot complete one chart twice at a time.
    """

    options: RenderOptions
    version: Future[str]
    charts: dict[Path | RemoteChart, Future[Path]]


class Chart(Source):
    """`helm = { chart = "FOLDER", ... }`: installed as a release."""

    key = "helm"
    is_table = True
    is_installed = True
    program = Program(("helm", "version", "--short"), "charts")

    def read(self, service: str, table: Table) -> Helm | None:
        """Return what the table says; the release is named after the service if it says nothing."""
        if (value := table.raw(self.key)) is None:
            return None
        own = Table(f"{table.place.removesuffix(']')}.helm]", value, table.problems)
        release, namespace = own.text("release"), own.text("namespace")
        _check_names(service, release, namespace, own)
        helm = Helm(
            chart=_chart(own, repo := own.text("repo")),
            values=tuple(expand_path(text) for text in own.texts("values")),
            set=_values(own),
            release=release,
            namespace=namespace,
            repo=repo,
            version=own.text("version"),
        )
        if "chart" not in own and not own.broken:
            own.complain("has no chart")
        own.reject_unknown()
        return helm

    def table_of(self, value: Any) -> Any:
        """Return a record as a table, without values, for which TOML has no words."""
        keys = keys_of(value) if isinstance(value, Helm) else value
        if isinstance(value, Helm) and isinstance(value.set, dict):
            keys.pop("set", None)
        return keys

    def restore(self, read: Any, value: Any) -> Any:
        """Return the record with its values, which are nested already and may hold null."""
        if read and isinstance(value, Helm) and isinstance(value.set, dict):
            return replace(read, set=value.set)
        return read

    def problems(self, value: Helm, folder: Path) -> Iterator[str]:
        """Yield what of a chart is missing."""
        yield from problems_of_remote(value)
        chart = folder / value.chart
        if remote_chart(value) or "://" in str(value.chart):
            pass
        elif (why := why_no_folder(chart)) and why_no_file(chart):
            yield f'chart "{value.chart}": {why}'
        elif not why and why_no_file(chart / "Chart.yaml"):
            yield f'chart "{value.chart}": a folder without Chart.yaml is no chart'
        for path in value.values:
            if why := why_no_file(folder / path):
                yield f'values "{path}": {why}'

    def prepare(
        self,
        values: Sequence[Helm],
        *,
        folder: Path,
        options: RenderOptions | None,
        submit: Callable[..., Future[Any]],
    ) -> _Shared:
        """Ask helm's version and complete each chart, in other threads.

        Raises:
            ToolMissingError: There is no helm.
        """
        assert options is not None  # noqa: S101 - there is a program
        which("helm", fix=how_to_get("helm"))
        charts = {_where(value, folder) for value in values}
        return _Shared(
            options=options,
            version=submit(_helm_version, options),
            charts={one: submit(_fetched, one, options) for one in charts},
        )

    def render(self, value: Helm, *, service: str, folder: Path, shared: _Shared) -> SourceObjects:
        """Return the objects of a chart, and its release.

        Raises:
            KindInfraError: The values cannot be read, or helm did not render it.
        """
        release, problems = _plan_release(
            value,
            service=service,
            folder=folder,
            chart=shared.charts[_where(value, folder)].result(),
            version=shared.version.result(),
            options=shared.options,
        )
        return SourceObjects(release.objects, problems, release)

    def describe(self, value: Helm, release: Release | None) -> str:
        """Name the chart and its release."""
        if release is None:
            return ""
        return (
            f'chart {remote_chart(value) or value.chart} as "{release.name}" in {release.namespace}'
        )


def _chart(own: Table, repo: str | None) -> Path | str:
    text = own.text("chart") or ""
    return text if repo is not None or "://" in text else expand_path(text)


def _where(value: Helm, folder: Path) -> Path | RemoteChart:
    return remote_chart(value) or (folder / value.chart).resolve()


def _fetched(chart: Path | RemoteChart, options: RenderOptions) -> Path:
    if isinstance(chart, RemoteChart):
        return pulled_chart(chart, options)
    return completed_chart(chart, options)


def _check_names(service: str, release: str | None, namespace: str | None, own: Table) -> None:
    if not _RELEASE.fullmatch(release or service):
        own.complain(
            f'release is "{release or service}", but must be a DNS label'
            " of at most 53 lower-case letters, digits and -"
        )
    if namespace and not _NAMESPACE.fullmatch(namespace):
        own.complain(
            f'namespace is "{namespace}", but must be a DNS label:'
            " at most 63 lower-case letters, digits and -"
        )


def _values(own: Table) -> dict[str, Any]:
    value = own.raw("set")
    if value is None:
        return {}
    if not isinstance(value, dict):
        own.complain(f"set must be a table of values, not {shown(value)}")
        return {}
    for key, strange in _strange(value):
        own.complain(f"set.{key} is {strange!r}, which no values file can hold: write a string")
    return _nested(value, own)


def _nested(value: Mapping[str, Any], own: Table) -> dict[str, Any]:
    """Return the table with its dotted keys taken apart; those of inner tables are names."""
    made: dict[str, Any] = {}
    for key, part in value.items():
        *path, last = (word.replace("\\.", ".") for word in _DOT.split(key))
        if not _put(made, path, last, part):
            own.complain(f'set."{key}" is said twice, or once as a value and once as a table')
    return made


def _put(made: dict[str, Any], path: list[str], last: str, value: Any) -> bool:
    """Put a value where it belongs; return whether nothing else was there."""
    for word in path:
        inner: Any = made.setdefault(word, {})
        if not isinstance(inner, dict):
            return False
        made = inner
    if isinstance(made.get(last), dict) and isinstance(value, dict):
        return all(_put(made[last], [], key, part) for key, part in value.items())
    if last in made:
        return False
    made[last] = value
    return True


def _strange(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what TOML has and YAML values have not: dates and times."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _strange(part, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for part in value:
            yield from _strange(part, key)
    elif not isinstance(value, str | int | float | bool):
        yield key, value


_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")


def _helm_version(options: RenderOptions) -> str:
    """Return helm's version: `3.19.2`.

    Raises:
        KindInfraError: It did not say.
    """
    argv = ["helm", "version", "--template", "{{.Version}}"]
    text = options.runner.run(argv, deadline=options.deadline, what="asking helm's version").stdout
    if version := _VERSION.search(text):
        return version[0]
    msg = f'helm version says "{text.strip()}", which is no version'
    raise KindInfraError(msg)


def _plan_release(
    helm: Helm, *, service: str, folder: Path, chart: Path, version: str, options: RenderOptions
) -> tuple[Release, list[str]]:
    """Render a chart and return its release, and what is wrong with its objects.

    Args:
        helm: What was declared.
        service: The service's name.
        folder: Where relative paths start.
        chart: The declared chart, or a copy with its dependencies.
        version: Of helm.
        options: How to render.

    Raises:
        KindInfraError: The values cannot be read, or helm did not render it.
    """
    files = tuple(folder / path for path in helm.values)
    texts = [mentioned(_read_values(file)) for file in files]
    mentions = dict.fromkeys([*(name for names in texts for name in names), *mentioned(helm.set)])
    release = Release(
        name=helm.release or service,
        namespace=helm.namespace or options.namespace,
        chart=chart,
        values=files,
        set=helm.set,
        mentions=tuple(mentions),
        version=version,
        content=release_content(helm, chart=chart, values=files),
    )
    objects, problems = _render(release, options)
    if release.namespace != options.namespace:
        objects = [_in_namespace(obj, release.namespace) for obj in objects]
    return replace(release, objects=tuple(objects)), problems


def values_options(
    release: Release, references: Mapping[str, str], folder: Path
) -> tuple[str, ...]:
    """Return the options that give helm the values, with references in the place of placeholders.

    Args:
        release: With its values.
        references: Declared image to its reference.
        folder: Gets the files that had to be written, which may hold secrets.
    """
    files = [_filled_file(file, references, folder, n) for n, file in enumerate(release.values)]
    if release.set:
        files.append(folder / "set.json")
        write_private(files[-1], json.dumps(filled(release.set, references), indent=2))
    return tuple(word for file in files for word in ("--values", str(file)))


def placed(obj: KubeObject, namespace: str) -> KubeObject:
    """Return an object with the namespace where helm puts it, unless it names one."""
    if obj["metadata"].get("namespace"):
        return obj
    placed = {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
    return Written(placed, place=place_of(obj))


def _render(release: Release, options: RenderOptions) -> tuple[list[KubeObject], list[str]]:
    stand_ins = {name: stand_in(name) for name in release.mentions}
    claimed = ("--kube-version", options.kubernetes) if options.kubernetes else ()
    with TemporaryDirectory(prefix="kindinfra-") as folder:
        values = values_options(release, stand_ins, Path(folder))
        argv = [
            *("helm", "template", release.name, str(release.chart)),
            *("--namespace", release.namespace, "--include-crds", "--skip-tests"),
            *(*claimed, *values),
        ]
        what = f'rendering chart "{release.chart.name}"'
        done = options.runner.run(argv, deadline=options.deadline, what=what, env=HELM_ENVIRONMENT)
    return parse_objects(done.stdout, source=f'chart "{release.chart.name}"')


def _in_namespace(obj: KubeObject, namespace: str) -> KubeObject:
    """Return an object with its namespace, if it is of those that are looked for in it."""
    is_service = obj["kind"] == "Service" and not group(obj)
    return placed(obj, namespace) if is_service or any(pod_templates(obj)) else obj


def _filled_file(file: Path, references: Mapping[str, str], folder: Path, number: int) -> Path:
    """Return the file itself, or a copy if it has placeholders."""
    value = _read_values(file)
    if not mentioned(value):
        return file
    copy = folder / f"values-{number}.json"
    write_private(copy, json.dumps(filled(value, references), indent=2))
    return copy


def _read_values(file: Path) -> Any:
    try:
        documents = list(load_documents(read_text(file)))
    except (OSError, ValueError) as error:
        msg = f'values "{file.name}": {error}'
        raise KindInfraError(msg) from error
    return documents[0] if documents else None

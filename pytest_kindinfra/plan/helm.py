"""Charts: their files, the hash of their content, and the objects that helm renders from them."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, indent
from pytest_kindinfra.kube.objects import Written, group, parse_objects, place_of, pod_templates
from pytest_kindinfra.kube.rewrite import filled, mentioned
from pytest_kindinfra.kube.yaml import dump, load_documents
from pytest_kindinfra.model import Release
from pytest_kindinfra.references import stand_in
from pytest_kindinfra.system.files import read_text, why_no_file, why_no_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_kindinfra.model import Helm, KubeObject
    from pytest_kindinfra.plan.source import Templating


_LISTS = ("Chart.yaml", "requirements.yaml")


_LOCKS = ("Chart.lock", "requirements.lock")


_LOCAL = "file://"


def completed_chart(chart: Path, how: Templating) -> Path:
    """Return a chart's folder, or that of a copy into which helm put what was missing.

    Raises:
        CommandError: helm could not get a dependency.
    """
    if not (chart.is_dir() and _missing(chart)):
        return chart
    aside = Path(tempfile.mkdtemp(prefix="kindinfra-chart-"))
    atexit.register(_remove, aside, os.getpid())
    copy = aside / chart.resolve().name
    shutil.copytree(chart, copy, ignore_dangling_symlinks=True)
    # A lock file is a promise about the list as it stands: of a changed one helm wants none of it.
    changed = _made_absolute(copy, chart)
    locked = not changed and any((chart / name).is_file() for name in _LOCKS)
    argv = ["helm", "dependency", "build" if locked else "update", str(copy)]
    what = f'getting what chart "{chart.name}" depends on'
    how.runner.run(argv, deadline=how.deadline, what=what, env=HELM_ENVIRONMENT)
    return copy


def _remove(folder: Path, process: int) -> None:
    """Remove a folder at the end of the process that made it, and not of one forked from that."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _missing(chart: Path) -> list[str]:
    """Return the names of the charts that it depends on and has not got."""
    listed = {str(one.get("name")) for name in _LISTS for one in _dependencies(chart / name)}
    there = [path.name for path in (chart / "charts").glob("*")]
    return sorted(
        name
        for name in listed
        if name not in there
        and not any(one.startswith(f"{name}-") and one.endswith(".tgz") for one in there)
    )


def _made_absolute(copy: Path, chart: Path) -> bool:
    """Have dependencies in folders beside the chart found from the copy; whether there are any."""
    found = False
    for name in _LISTS:
        for one in (whole := _list(copy / name)).get("dependencies") or ():
            where = str(one.get("repository", ""))
            if where.startswith(_LOCAL) and not where.startswith(f"{_LOCAL}/"):
                one["repository"] = f"{_LOCAL}{(chart / where.removeprefix(_LOCAL)).resolve()}"
                found = True
        if found and whole:
            (copy / name).write_text(dump(whole))
    return found


def _dependencies(file: Path) -> list[dict[str, Any]]:
    return [one for one in _list(file).get("dependencies") or () if isinstance(one, dict)]


def _list(file: Path) -> dict[str, Any]:
    """Return what a file says; one that is no YAML helm complains about itself."""
    try:
        documents = list(load_documents(read_text(file)))
    except (OSError, ValueError):
        return {}
    return documents[0] if documents and isinstance(documents[0], dict) else {}


_HASH_DIGITS = 16


_NOT_HASHED = ("Chart.lock", "requirements.lock")


_PACKED = ".tgz"


def release_content(helm: Helm, *, chart: Path, values: Sequence[Path]) -> str:
    """Return a hash of a chart with its dependencies, of files of values, and of what was set."""
    found = hashlib.sha256(json.dumps(helm.set, sort_keys=True, default=str).encode())
    found.update(f"{helm.release}\0{helm.namespace}\0".encode())
    for name, content in _parts(chart, values):
        found.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    return found.hexdigest()[:_HASH_DIGITS]


def _parts(chart: Path, values: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of all that counts, in an order of its own."""
    for path in values:
        yield path.name, path.read_bytes()
    for path in sorted(_files(chart)) or [chart]:
        name = str(path.relative_to(chart))
        if path.suffix == _PACKED:
            yield from ((f"{name}/{inner}", content) for inner, content in _members(path))
        elif path.name not in _NOT_HASHED:
            yield name, path.read_bytes()


def _files(chart: Path) -> Iterator[Path]:
    """Yield the files of a chart as helm finds them: also behind links, such as a sub-chart's."""
    for text, folders, names in os.walk(chart, followlinks=True):
        folder = Path(text)
        # A link to a folder above would lead round and round.
        above = {parent.resolve() for parent in (folder, *folder.parents)}
        folders[:] = [one for one in folders if (folder / one).resolve() not in above]
        yield from (path for name in names if (path := folder / name).is_file())


def _members(archive: Path) -> list[tuple[str, bytes]]:
    """Return the files in a packed chart, sorted; one that is no archive helm complains about."""
    try:
        with tarfile.open(archive) as packed:
            files = [one for one in packed if one.isfile() and _counts(one.name)]
            return sorted((one.name, _read(packed, one)) for one in files)
    except tarfile.TarError:
        return [("", archive.read_bytes())]


def _counts(name: str) -> bool:
    return PurePosixPath(name).name not in _NOT_HASHED


def _read(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(member)
    return file.read() if file else b""


HELM_ENVIRONMENT = dict.fromkeys(
    (
        *("HELM_NAMESPACE", "HELM_KUBECONTEXT", "HELM_KUBETOKEN", "HELM_KUBEASUSER"),
        *("HELM_KUBEASGROUPS", "HELM_KUBEAPISERVER", "HELM_KUBECAFILE"),
        *("HELM_KUBEINSECURE_SKIP_TLS_VERIFY", "HELM_KUBETLS_SERVER_NAME"),
    ),
    "",
)
"""Emptied for helm: with these it would leave our kubeconfig for another cluster."""


_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")


def helm_version(how: Templating) -> str:
    """Return helm's version: `3.19.2`.

    Raises:
        KindInfraError: It did not say.
    """
    argv = ["helm", "version", "--template", "{{.Version}}"]
    text = how.runner.run(argv, deadline=how.deadline, what="asking helm's version").stdout
    if found := _VERSION.search(text):
        return found[0]
    msg = f'helm version says "{text.strip()}", which is no version'
    raise KindInfraError(msg)


def chart_problems(helm: Helm, folder: Path) -> Iterator[str]:
    """Yield what of a chart is not there."""
    chart = folder / helm.chart
    if ":/" in str(helm.chart):  # what a path makes of ://
        url = str(helm.chart).replace(":/", "://")
        yield f'chart "{url}": charts are folders; get it with helm pull --untar'
    elif (why := why_no_folder(chart)) and why_no_file(chart):
        yield f'chart "{helm.chart}": {why}'
    elif not why and why_no_file(chart / "Chart.yaml"):
        yield f'chart "{helm.chart}": a folder without Chart.yaml is no chart'
    for path in helm.values:
        if why := why_no_file(folder / path):
            yield f'values "{path}": {why}'


def plan_release(
    helm: Helm, *, service: str, folder: Path, chart: Path, version: str, how: Templating
) -> tuple[Release, list[str]]:
    """Render a chart and return its release, and what is wrong with its objects.

    Args:
        helm: What was declared.
        service: The service's name.
        folder: Where relative paths start.
        chart: The declared chart, or a copy with its dependencies.
        version: Of helm.
        how: How to render.

    Raises:
        KindInfraError: The values cannot be read, or helm did not render it.
    """
    files = tuple(folder / path for path in helm.values)
    texts = [mentioned(_read_values(file)) for file in files]
    mentions = dict.fromkeys([*(name for names in texts for name in names), *mentioned(helm.set)])
    release = Release(
        name=helm.release or service,
        namespace=helm.namespace or how.namespace,
        chart=chart,
        values=files,
        set=helm.set,
        mentions=tuple(mentions),
        version=version,
        content=release_content(helm, chart=chart, values=files),
    )
    objects, problems = _render(release, how)
    if release.namespace != how.namespace:
        objects = [_found(obj, release.namespace) for obj in objects]
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


def told(error: KindInfraError) -> str:
    """Return an error as a problem of a declaration: its further lines stand below it."""
    first, _, rest = str(error).partition("\n")
    return f"{first}\n{indent(rest)}" if rest else first


def _render(release: Release, how: Templating) -> tuple[list[KubeObject], list[str]]:
    stand_ins = {name: stand_in(name) for name in release.mentions}
    claimed = ("--kube-version", how.kubernetes) if how.kubernetes else ()
    with TemporaryDirectory(prefix="kindinfra-") as folder:
        values = values_options(release, stand_ins, Path(folder))
        argv = [
            *("helm", "template", release.name, str(release.chart)),
            *("--namespace", release.namespace, "--include-crds", "--skip-tests"),
            *(*claimed, *values),
        ]
        what = f'rendering chart "{release.chart.name}"'
        done = how.runner.run(argv, deadline=how.deadline, what=what, env=HELM_ENVIRONMENT)
    return parse_objects(done.stdout, source=f'chart "{release.chart.name}"')


def _found(obj: KubeObject, namespace: str) -> KubeObject:
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

"""Charts as objects: what helm makes of them before there is a cluster.

Their images and nodePorts must be known before anything is built or created. Nothing is written
into the user's folders: a chart whose dependencies are not there is copied first. It must not
know services or clusters.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.chartcontent import release_content
from pytest_kindinfra.errors import KindInfraError, indent
from pytest_kindinfra.kubeyaml import load_documents
from pytest_kindinfra.manifests import Written, parse_objects, place_of
from pytest_kindinfra.manifests import is_hook as is_hook  # noqa: PLC0414 - others look for it here
from pytest_kindinfra.model import Release
from pytest_kindinfra.podspecs import group, pod_templates
from pytest_kindinfra.presence import why_no_file, why_no_folder
from pytest_kindinfra.privatefiles import write_private
from pytest_kindinfra.references import stand_in
from pytest_kindinfra.rewriting import filled, mentioned
from pytest_kindinfra.textfiles import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kindinfra.model import Helm, KubeObject
    from pytest_kindinfra.process import Runner
    from pytest_kindinfra.timeline import Deadline

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Templating:
    """How charts and kustomizations are rendered.

    Attributes:
        runner: Runs helm.
        namespace: Of releases that name none.
        kubernetes: The version that charts are told; None leaves it to helm.
        deadline: When to stop.
    """

    runner: Runner
    namespace: str
    kubernetes: str | None
    deadline: Deadline


def kubernetes_version(node_image: str | None) -> str | None:
    """Return `1.34.4` for `kindest/node:v1.34.4@sha256:...`, None if the tag does not say."""
    tag = (node_image or "").partition("@")[0].rpartition(":")[2]
    found = re.fullmatch(r"v(\d+\.\d+\.\d+)(-.*)?", tag)
    return found[1] if found else None


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

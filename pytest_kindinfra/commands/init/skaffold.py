"""A skaffold.yaml, read once: its artifacts, manifests, kustomizations and charts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.commands.init.draft import DraftImage, DraftService
from pytest_kindinfra.commands.init.scan import image_name, label
from pytest_kindinfra.references import last_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Skaffold:
    """What a skaffold.yaml says.

    Attributes:
        images: Its artifacts that have a Dockerfile.
        manifests: Globs of files; None if it names none, so that those found count.
        kustomizations: Folders.
        charts: Services that are charts, in folders or of repositories.
        notes: What of it was not read.
    """

    images: tuple[DraftImage, ...] = ()
    manifests: tuple[str, ...] | None = None
    kustomizations: tuple[str, ...] = ()
    charts: tuple[DraftService, ...] = ()
    notes: tuple[str, ...] = ()


def read_skaffold(document: Mapping[str, Any]) -> Skaffold:
    """Return what the file's first document says, its profiles left out."""
    manifests = _at(document, "manifests")
    deploy = _at(document, "deploy")
    raw = [*_list(manifests, "rawYaml"), *_list(_at(deploy, "kubectl"), "manifests")]
    kustomize = _at(manifests, "kustomize") or _at(deploy, "kustomize")
    releases = [
        *_list(_at(manifests, "helm"), "releases"),
        *_list(_at(deploy, "helm"), "releases"),
    ]
    names = [_chart(one) for one in releases if isinstance(one, dict)]
    return Skaffold(
        images=tuple(_images(document)),
        manifests=tuple(map(str, raw)) or None,
        kustomizations=tuple(map(str, _list(kustomize, "paths"))),
        charts=tuple(one for one in names if one),
        notes=tuple(_notes(document, releases)),
    )


def _at(table: Any, key: str) -> dict[str, Any]:
    value = table.get(key) if isinstance(table, dict) else None
    return value if isinstance(value, dict) else {}


def _list(table: Mapping[str, Any], key: str) -> list[Any]:
    value = table.get(key)
    return value if isinstance(value, list) else []


def _images(document: Mapping[str, Any]) -> Iterator[DraftImage]:
    for artifact in _list(_at(document, "build"), "artifacts"):
        reference = str(artifact.get("image", ""))
        docker = _at(artifact, "docker")
        if not reference or any(key in artifact for key in _OTHER_BUILDERS):
            continue
        context = str(artifact.get("context", ".")).removeprefix("./") or "."
        keys: dict[str, Any] = {"context": context}
        if dockerfile := docker.get("dockerfile"):
            keys["dockerfile"] = f"{context}/{dockerfile}" if context != "." else str(dockerfile)
        if target := docker.get("target"):
            keys["target"] = str(target)
        if arguments := _at(docker, "buildArgs"):
            keys["build_args"] = {key: str(text) for key, text in arguments.items()}
        needs = [image_name(last_part(str(one.get("image", ""))))
                 for one in _list(artifact, "requires")]  # fmt: skip
        keys |= {"needs": needs} if needs else {}
        name = image_name(last_part(reference))
        keys |= {"names": [reference]} if reference != name else {}
        yield DraftImage(name=name, keys=keys)


_OTHER_BUILDERS = ("bazel", "buildpacks", "custom", "jib", "kaniko", "ko")


def _chart(release: Mapping[str, Any]) -> DraftService | None:
    if not (helm := _source(release)):
        return None
    name = label(str(release.get("name", "chart")))
    helm |= {"values": list(map(str, files))} if (files := _list(release, "valuesFiles")) else {}
    if (given := _at(release, "setValues")) and all(_is_plain(one) for one in given.values()):
        helm["set"] = given
    helm |= {"namespace": str(where)} if (where := release.get("namespace")) else {}
    return DraftService(name=name, keys={"helm": helm})


def _source(release: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that say where the chart is; none for one without repository or version."""
    if chart := release.get("chartPath"):
        return {"chart": str(chart)}
    remote, version = str(release.get("remoteChart") or ""), release.get("version")
    if remote.startswith("oci://") and version:
        return {"chart": remote, "version": str(version)}
    if remote and version and (repository := release.get("repo")):
        return {"chart": remote, "repo": str(repository), "version": str(version)}
    return {}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _notes(document: Mapping[str, Any], releases: list[Any]) -> Iterator[str]:
    for artifact in _list(_at(document, "build"), "artifacts"):
        for key in _OTHER_BUILDERS:
            if key in artifact:
                yield (
                    f"skaffold builds {artifact.get('image')} with {key}: declare it as `prebuilt`"
                    " or `archive`"
                )
    for release in releases:
        if isinstance(release, dict) and not _source(release):
            chart = release.get("remoteChart") or release.get("name")
            yield (
                f"skaffold installs the chart {chart} without a repository or a version: declare it"
                " as `helm` with `chart`, `repo` and `version`"
            )
    for forward in _list(document, "portForward"):
        if isinstance(forward, dict):
            yield _forwarded(forward)
    if document.get("requires"):
        yield "skaffold.yaml requires further configurations, which were not read"
    if document.get("profiles"):
        yield "skaffold.yaml has profiles, which were not read"


def _forwarded(forward: Mapping[str, Any]) -> str:
    kind, name = str(forward.get("resourceType", "service")), forward.get("resourceName")
    port, here = forward.get("port"), forward.get("localPort")
    fixed = f", at port {here}: `host_port = {here}` of an endpoint keeps that" if here else ""
    return f"skaffold forwards port {port} of {kind.lower()}/{name}{fixed}"

"""Draw a declaration up from a folder: what was found becomes images and services."""

from __future__ import annotations

import fnmatch
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_kindinfra.commands.init.compose import Compose, read_compose
from pytest_kindinfra.commands.init.draft import Draft, DraftImage, DraftService, without_cycles
from pytest_kindinfra.commands.init.objects import group_manifests, guessed_needs, service_of
from pytest_kindinfra.commands.init.scan import (
    bases_among,
    first_document,
    image_of,
    label,
    scan,
)
from pytest_kindinfra.commands.init.skaffold import Skaffold, read_skaffold
from pytest_kindinfra.kube.objects import image_references
from pytest_kindinfra.references import is_bare_or_local, last_part

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.commands.init.scan import Found, Manifest
    from pytest_kindinfra.model import KubeObject


MANIFESTS = "kindinfra"
"""The folder for manifests that are made of a compose file."""


_STRANGE = (AttributeError, KeyError, TypeError, ValueError)
"""What reading raises of a file in which something has another type than its tool wants."""


def draw_up(folder: Path) -> Draft:
    """Return a declaration for a folder; nothing is written.

    Where several sources say something of one service, its own manifests go before skaffold.yaml,
    and that before the compose file.
    """
    found = scan(folder)
    skaffold = _skaffold(folder, found)
    manifests = [one for one in found.manifests if _is_named(one, skaffold)]
    groups, notes = group_manifests(manifests)
    kustomizations = list(skaffold.kustomizations) or found.kustomizations
    charts = {one.name: one for one in skaffold.charts} or {
        label(name): DraftService(name=label(name), keys={"helm": {"chart": chart}})
        for chart, name in found.charts.items()
    }
    written = {*groups, *charts}
    compose = _compose(folder, found, written, skip=bool(kustomizations))
    images = _images(folder, found, skaffold, compose, manifests)
    names = [image.name for image in images]
    services = [
        service_of(name, {"manifests": [file.path for file in one.files]}, one.objects, names)
        for name, one in groups.items()
    ]
    services = _with_needs(services, {name: one.objects for name, one in groups.items()}, compose)
    kustomized, more = _kustomized(kustomizations, {one.name for one in services} | charts.keys())
    return Draft(
        sources=tuple(found.others.values()),
        images=tuple(_with_bases(folder, images)),
        services=without_cycles([*services, *charts.values(), *kustomized, *compose.services]),
        notes=(*skaffold.notes, *compose.notes, *notes, *more),
        files=compose.files,
    )


def _skaffold(folder: Path, found: Found) -> Skaffold:
    path = found.others.get("skaffold")
    if path is None:
        return Skaffold()
    try:
        return read_skaffold(first_document(folder / path))
    except _STRANGE as error:
        return Skaffold(notes=(_unread(path, error),))


def _compose(folder: Path, found: Found, written: Iterable[str], *, skip: bool) -> Compose:
    """Return what the compose file says; with a kustomization only what is built."""
    path = found.others.get("compose")
    if path is None:
        return Compose()
    try:
        read = read_compose(first_document(folder / path), folder=MANIFESTS, known=written)
    except _STRANGE as error:
        return Compose(notes=(_unread(path, error),))
    return Compose(images=read.images, needs=read.needs) if skip else read


def _unread(path: str, error: Exception) -> str:
    return f"{path} could not be read: {error}"


def _is_named(manifest: Manifest, skaffold: Skaffold) -> bool:
    globs = skaffold.manifests
    return globs is None or any(
        fnmatch.fnmatch(manifest.path, glob.removeprefix("./")) for glob in globs
    )


def _images(
    folder: Path,
    found: Found,
    skaffold: Skaffold,
    compose: Compose,
    manifests: Iterable[Manifest],
) -> list[DraftImage]:
    """Return the images, those of other tools first; a Dockerfile that one has is not had twice."""
    given = list(skaffold.images) or list(compose.images)
    taken = {_dockerfile(one) for one in given}
    used = [ref for file in manifests for obj in file.objects for ref in image_references(obj)]
    made = {one.name: one for one in given}
    for path in () if skaffold.images else found.dockerfiles:
        if path in taken:
            continue
        image = _as_used(image_of(folder, path), used)
        name = image.name
        while name in made:
            name = f"{name}-2"
        made[name] = replace(image, name=name)
    return list(made.values())


def _dockerfile(image: DraftImage) -> str:
    context = str(image.keys.get("context", "."))
    written = str(image.keys.get("dockerfile") or PurePosixPath(context) / "Dockerfile")
    return written.removeprefix("./")


def _as_used(image: DraftImage, used: list[str]) -> DraftImage:
    """Return an image under the name by which manifests mean it, if only one can be meant."""
    exact = [one for one in used if last_part(one) == image.name]
    near = {
        last_part(one)
        for one in used
        if last_part(one).endswith(f"-{image.name}") or last_part(one).startswith(f"{image.name}-")
    }
    if not exact and len(near) == 1:
        name = near.pop()
        note = f'named after the image in manifests: "{name}"'
        image = replace(image, name=name, notes=(*image.notes, note))
        exact = [one for one in used if last_part(one) == name]
    foreign = sorted({one for one in exact if not is_bare_or_local(one)})
    if not foreign:
        return image
    note = f"built here instead of pulling {', '.join(foreign)}"
    keys = {**image.keys, "names": foreign}
    return replace(image, keys=keys, notes=(*image.notes, note))


def _with_bases(folder: Path, images: list[DraftImage]) -> Iterable[DraftImage]:
    names = [one.name for one in images]
    for image in images:
        others = [name for name in names if name != image.name]
        bases = bases_among(folder, _dockerfile(image), others)
        if bases and "needs" not in image.keys:
            yield replace(image, keys={**image.keys, "needs": bases})
        else:
            yield image


def _with_needs(
    services: list[DraftService], objects: dict[str, list[KubeObject]], compose: Compose
) -> list[DraftService]:
    guessed = guessed_needs(objects)
    made = []
    for service in services:
        needs = dict(compose.needs.get(service.name, {}))
        notes = list(service.notes)
        for need, where in guessed[service.name].items():
            if need not in needs:
                needs[need] = "ready"
                notes.append(f'guessed that it needs "{need}": {where} names it')
        made.append(replace(service, needs=needs, notes=tuple(notes)))
    return made


def _kustomized(paths: list[str], taken: Iterable[str]) -> tuple[list[DraftService], list[str]]:
    """Return a service for the first kustomization, and notes for the others."""
    if not paths:
        return [], []
    first, *others = paths
    parts = [part for part in PurePosixPath(first).parts if part not in {"overlays", "base"}]
    name = label(parts[-1] if parts else "app")
    name = f"{name}-all" if name in set(taken) else name
    notes = ("it is one service: what in it needs what only its own readiness probes can say",)
    service = DraftService(name=name, keys={"kustomize": first}, notes=notes)
    return [service], [f"another kustomization, not used: {one}" for one in others]

"""What is in a folder: Dockerfiles, charts, kustomizations, manifests."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.commands.init.draft import DraftImage
from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.images.dockerfile import instructions, references
from pytest_kindinfra.kube.objects import parse_objects
from pytest_kindinfra.kube.yaml import load_documents
from pytest_kindinfra.references import is_bare_or_local, last_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kindinfra.model import KubeObject


_SKIPPED = frozenset(
    (
        *("node_modules", "vendor", "venv", "env", "site-packages", "__pycache__"),
        *("testdata", "dist", "target", "build"),
    )
)


_DEEPEST = 6


_MOST_FILES = 20_000


_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")


_PREFERRED = ("e2e", "test", "kind", "local", "dev", "development", "default")
"""Names of the overlay that is meant for tests, the best first."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A file of objects, relative to the folder."""

    path: str
    objects: tuple[KubeObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is in a folder; all paths are relative to it.

    Attributes:
        dockerfiles: In any order.
        charts: Folder to the chart's name.
        kustomizations: Folders that no other kustomization uses, the preferred first.
        manifests: Files of objects that no chart and no kustomization has.
        others: Names of files of other tools, such as `skaffold.yaml`, to their paths.
    """

    dockerfiles: list[str] = field(default_factory=list)
    charts: dict[str, str] = field(default_factory=dict)
    kustomizations: list[str] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)


OTHERS = {
    "skaffold.yaml": "skaffold",
    "skaffold.yml": "skaffold",
    "compose.yaml": "compose",
    "compose.yml": "compose",
    "docker-compose.yaml": "compose",
    "docker-compose.yml": "compose",
}
"""Files of other tools in the folder itself, and what reads them."""


def scan(folder: Path) -> Found:
    """Return what is in a folder; hidden folders, and those of dependencies, are left out."""
    files = list(_files(folder))
    charts = _charts(folder, files)
    kustomizations = _kustomizations(folder, files)
    apart = [PurePosixPath(one) for one in (*charts, *kustomizations.taken)]
    plain = [
        path
        for path in files
        if PurePosixPath(path).suffix in {".yaml", ".yml"}
        and PurePosixPath(path).name not in OTHERS
        and not any(PurePosixPath(path).is_relative_to(one) for one in apart)
    ]
    return Found(
        dockerfiles=[path for path in files if _is_dockerfile(path)],
        charts=charts,
        kustomizations=kustomizations.roots,
        manifests=[one for path in plain if (one := _read_manifest(folder, path))],
        others={OTHERS[path]: path for path in reversed(files) if path in OTHERS},
    )


def _files(folder: Path) -> Iterator[str]:
    count = 0
    for text, folders, names in os.walk(folder):
        here = Path(text).relative_to(folder)
        kept = [one for one in folders if not one.startswith(".") and one not in _SKIPPED]
        folders[:] = sorted(kept) if len(here.parts) < _DEEPEST else []
        for name in sorted(names):
            if (count := count + 1) > _MOST_FILES:
                return
            yield (here / name).as_posix()


def _is_dockerfile(path: str) -> bool:
    """Whether a file's name is that of a Dockerfile."""
    name = PurePosixPath(path).name
    variant = name.startswith(("Dockerfile.", "Containerfile.")) or name.endswith(".Dockerfile")
    return name in {"Dockerfile", "Containerfile"} or (
        variant and not name.endswith(".dockerignore")
    )


def _charts(folder: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the charts that are no part of another and install something: folder to name."""
    found: dict[str, str] = {}
    for path in files:
        place = PurePosixPath(path)
        if place.name != "Chart.yaml" or any(place.is_relative_to(one) for one in found):
            continue
        about = first_document(folder / path)
        if about.get("type") != "library":
            found[str(place.parent)] = str(about.get("name") or place.parent.name)
    return found


@dataclass(frozen=True, slots=True)
class _Kustomizations:
    roots: list[str]
    taken: list[str]


def _kustomizations(folder: Path, files: Iterable[str]) -> _Kustomizations:
    there = {
        str(PurePosixPath(path).parent): first_document(folder / path)
        for path in files
        if PurePosixPath(path).name in _KUSTOMIZATIONS
    }
    used = set()
    for place, document in there.items():
        for key in ("resources", "bases", "components"):
            for one in document.get(key) or ():
                used.add(os.path.normpath(f"{place}/{one}"))
    roots = [
        place
        for place, document in there.items()
        if place not in used and document.get("kind") != "Component"
    ]
    outside = [str(PurePosixPath(one).parent) for one in used if _is_yaml(one)]
    taken = [one for one in (*there, *outside) if one != "."]
    return _Kustomizations(sorted(roots, key=_preference), taken)


def _is_yaml(path: str) -> bool:
    """Whether a path ends as YAML files do."""
    return path.endswith((".yaml", ".yml"))


def _preference(path: str) -> tuple[int, str]:
    name = PurePosixPath(path).name
    return (_PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED), path)


def first_document(path: Path) -> dict[str, Any]:
    """Return the first table of a YAML file; an empty one for a file that cannot be read."""
    with suppress(OSError, ValueError, KindInfraError):
        for document in load_documents(path.read_text("utf-8")):
            if isinstance(document, dict):
                return document
    return {}


def _read_manifest(folder: Path, path: str) -> Manifest | None:
    """Return a file of Kubernetes objects; None for any other YAML."""
    try:
        text = (folder / path).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if "apiVersion" not in text or "{{" in text:
        return None
    try:
        objects, problems = parse_objects(text, source=path)
    except (KindInfraError, ValueError):
        return None
    if problems or not objects or any(_is_of_a_tool(obj) for obj in objects):
        return None
    return Manifest(path, tuple(objects))


_TOOLS = ("skaffold/", "kind.x-k8s.io/", "kustomize.config.k8s.io/", "ctlptl.dev/")


def _is_of_a_tool(obj: KubeObject) -> bool:
    return str(obj.get("apiVersion", "")).startswith(_TOOLS)


def image_of(folder: Path, dockerfile: str, name: str = "") -> DraftImage:
    """Return an image for a Dockerfile; its context is where the files are that it copies."""
    place = PurePosixPath(dockerfile)
    sources = list(_copied(folder / dockerfile))
    here = place.parent
    notes: tuple[str, ...] = ()
    if not _all_there(folder / here, sources) and here != PurePosixPath():
        if _all_there(folder, sources):
            here = PurePosixPath()
        else:
            missing = next(one for one in sources if not _is_there(folder / here, one))
            notes = (f"the context was guessed: {missing} is neither in it nor in this folder",)
    keys: dict[str, Any] = {"context": str(here)}
    if here / "Dockerfile" != place:
        keys["dockerfile"] = dockerfile
    return DraftImage(name=name or _name_of(folder, place), keys=keys, notes=notes)


def _name_of(folder: Path, place: PurePosixPath) -> str:
    """Return what an image is called: after its folder, or after the ending of its Dockerfile."""
    stem = place.name.removesuffix(".Dockerfile")
    own = stem.partition(".")[2] if stem.startswith(("Dockerfile", "Containerfile")) else stem
    parent = place.parent.name or folder.resolve().name
    return image_name(own or parent)


def image_name(text: str) -> str:
    """Return a text as a name of an image."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "app"


def label(text: str) -> str:
    """Return a text as a DNS label."""
    return image_name(text)[:63].strip("-")


def bases_among(folder: Path, dockerfile: str, names: Iterable[str]) -> list[str]:
    """Return which of the images a Dockerfile starts from or copies from."""
    try:
        text = (folder / dockerfile).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    known = set(names)
    used = [one for one in references(text, build_args={}, named=()) if is_bare_or_local(one)]
    return [name for one in used if (name := last_part(one)) in known]


def _copied(dockerfile: Path) -> Iterator[str]:
    """Yield what a Dockerfile copies from its context."""
    try:
        text = dockerfile.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return
    for keyword, rest in instructions(text):
        words = rest.split()
        if keyword not in {"COPY", "ADD"} or any(one.startswith("--from=") for one in words):
            continue
        plain = [one.strip('[],"') for one in words if not one.startswith("--")]
        yield from (one for one in plain[:-1] if "$" not in one and "://" not in one)


def _all_there(folder: Path, sources: Iterable[str]) -> bool:
    return all(_is_there(folder, one) for one in sources)


def _is_there(folder: Path, source: str) -> bool:
    relative = source.lstrip("/") or "."
    if "<<" in relative:
        return True
    with suppress(ValueError, NotImplementedError):
        return any(True for _ in folder.glob(relative)) if relative != "." else True
    return True

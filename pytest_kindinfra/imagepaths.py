"""Where custom resources name what they run: at paths that a service declares.

No kind says so itself, and a guess would rewrite what is no image. A path leads to a pod template,
a pod's spec, a container, a list of containers, or to the reference. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kindinfra.podspecs import (
    ImageField,
    containers,
    image_fields,
    image_volumes,
    written_references,
)
from pytest_kindinfra.readywhen import is_meant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_kindinfra.model import KubeObject

    ImagePaths = Iterable[Sequence[str]]
    """Pairs of a kind, as `Kind` or `Kind.group`, and a path with dots."""

_CONTAINERS = ("initContainers", "containers")


def containers_at(obj: KubeObject, paths: ImagePaths) -> Iterator[dict[str, Any]]:
    """Yield each container in `obj`: of its pod templates, then at the paths of its kind."""
    yield from containers(obj)
    for value, _ in _values(obj, paths):
        yield from _containers_in(value)


def fields_at(obj: KubeObject, paths: ImagePaths) -> Iterator[ImageField]:
    """Yield each place where `obj` names an image: in its pods, then at the paths of its kind."""
    yield from image_fields(obj)
    for value, (parent, key) in _values(obj, paths):
        if isinstance(value, str):
            yield ImageField(parent, key, None)
        for container in _containers_in(value):
            yield ImageField(container, "image", "imagePullPolicy")
        for source in _volumes_in(value):
            yield ImageField(source, "reference", "pullPolicy")


def image_references_at(obj: KubeObject, paths: ImagePaths) -> list[str]:
    """Return the image references of `obj` as written, each once, in order."""
    return written_references(fields_at(obj, paths))


def leads_somewhere(obj: KubeObject, path: str) -> bool:
    """Whether there is something in `obj` that can run an image, at a path with dots."""
    paths = ((str(obj.get("kind")), path),)
    return any(
        isinstance(value, str) or any(_containers_in(value)) or any(_volumes_in(value))
        for value, _ in _values(obj, paths)
    )


def _values(obj: KubeObject, paths: ImagePaths) -> Iterator[tuple[Any, tuple[dict[str, Any], str]]]:
    """Yield what each path of the object's kind leads to, and the table and key of it."""
    for kind, path in paths:
        *before, last = path.split(".")
        parent: Any = obj if is_meant(kind, obj) else None
        for key in before:
            parent = parent.get(key) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and last in parent:
            yield parent[last], (parent, last)


def _volumes_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the image volumes of a pod template or of a pod's spec."""
    if isinstance(value, dict):
        yield from image_volumes(value["spec"] if isinstance(value.get("spec"), dict) else value)


def _containers_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the containers of a pod template, a pod's spec, a list, or the one that it is."""
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict) and "image" in one)
    elif isinstance(value, dict):
        spec = value["spec"] if isinstance(value.get("spec"), dict) else value
        if isinstance(spec.get("image"), str):
            yield spec
        for key in _CONTAINERS:
            yield from _containers_in(spec[key] if isinstance(spec.get(key), list) else None)

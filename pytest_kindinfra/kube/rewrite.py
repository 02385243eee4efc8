"""Put the references of this run into objects, wherever they name images. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.objects import (
    ImageField,
    Written,
    containers,
    image_fields,
    image_volumes,
    place_of,
    pod_specs,
    pod_templates,
    written_references,
)
from pytest_kindinfra.kube.readiness import is_meant
from pytest_kindinfra.kube.yaml import copied
from pytest_kindinfra.references import PullSecret, split

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.model import KubeObject

    ImagePaths = Iterable[Sequence[str]]
    """Pairs of a kind, as `Kind` or `Kind.group`, and a path with dots."""

_CONTAINERS = ("initContainers", "containers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesInUse:
    """What becomes of image references in manifests.

    Attributes:
        written: Reference as written to the reference of this run.
        loaded: External references that are in the kind nodes: never pulled again.
        declared: Declared name to the reference of this run, for `${image:NAME}`.
        pull: By which nodes pull them; None where they need no Secret for that.
    """

    written: Mapping[str, str]
    loaded: frozenset[str]
    declared: Mapping[str, str]
    pull: PullSecret | None = None


def _containers_at(obj: KubeObject, paths: ImagePaths) -> Iterator[dict[str, Any]]:
    """Yield each container in `obj`: of its pod templates, then at the paths of its kind."""
    yield from containers(obj)
    for value, _ in _values(obj, paths):
        yield from _containers_in(value)


def _fields_at(obj: KubeObject, paths: ImagePaths) -> Iterator[ImageField]:
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
    return written_references(_fields_at(obj, paths))


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


CONTENT_ANNOTATION = "kindinfra/content"
"""The annotation of pod templates with the hash of their service's objects."""


_PARTS = ("repository", "tag")


# A shell's own `${image:-default}` and `${image:0:3}` are none.
_PLACEHOLDER = re.compile(r"\$\{image:(?![-+=?]|\s*-?\d+[:}])([^:}]+)(?::([A-Za-z]+))?\}")


_HASH_DIGITS = 16


def rewrite(
    obj: KubeObject,
    *,
    images: Mapping[str, str],
    namespace: str | None,
    labels: Mapping[str, str],
    pin: Collection[str] = (),
    placeholders: Mapping[str, str] | None = None,
    content: str | None = None,
    paths: ImagePaths = (),
    pull: PullSecret | None = None,
) -> KubeObject:
    """Return a copy of `obj` as it is to be applied; what was written stays untouched.

    Args:
        obj: An object as written.
        images: Image reference as written to the one that containers shall run.
        namespace: Filled in where none was written; None for a cluster-scoped object.
        labels: Added to the object and to its pods.
        pin: References as written that stay, but are not pulled again if they are there.
        placeholders: Declared image to its reference, for `${image:NAME}` in command, arguments
            and environment.
        content: The service's hash, put into pod templates.
        paths: Where custom resources name what they run.
        pull: Named by pods that run images of its registry; None for no Secret.
    """
    made: KubeObject = Written(copied(obj), place=place_of(obj))
    metadata = _table(made, "metadata")
    if namespace is not None and not metadata.get("namespace"):
        metadata["namespace"] = namespace
    _table(metadata, "labels").update(labels)
    for template in pod_templates(made):
        _mark(_table(template, "metadata"), labels, content)
    for field in _fields_at(made, paths):
        _set_image(field, images, pin, placeholders or {})
    for container in _containers_at(made, paths):
        _fill_in(container, placeholders or {})
    if pull and runs_images_of(made, pull.registry):
        _add_pull_secret(made, pull.name)
    return made


def runs_images_of(obj: KubeObject, registry: str) -> bool:
    """Whether pods of `obj` run an image of a registry, `HOST[:PORT][/PREFIX]`."""
    references = written_references(image_fields(obj))
    return any(reference.startswith(f"{registry}/") for reference in references)


def content_hash(objects: Iterable[KubeObject]) -> str:
    """Return a hash of all `objects` together, whatever their order and that of their keys."""
    texts = sorted(json.dumps(obj, sort_keys=True, default=str) for obj in objects)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:_HASH_DIGITS]


def placeholder_names(obj: KubeObject, paths: ImagePaths = ()) -> list[str]:
    """Return the names of the images that placeholders of `obj` stand for, each once."""
    texts = [text for container in _containers_at(obj, paths) for text in _texts(container)]
    texts += image_references_at(obj, paths)
    return list(dict.fromkeys(name for text in texts for name in mentioned(text)))


def has_placeholder(text: str) -> bool:
    """Whether there is a placeholder in `text`, for a declared image or not."""
    return bool(_PLACEHOLDER.search(text))


def filled(value: Any, references: Mapping[str, str]) -> Any:
    """Return a value, such as a chart's values, with references put in wherever a string is."""
    if isinstance(value, dict):
        return {key: filled(part, references) for key, part in value.items()}
    if isinstance(value, list):
        return [filled(part, references) for part in value]
    return _filled(value, references)


def mentioned(value: Any) -> list[str]:
    """Return the names of the images that placeholders in `value` stand for, each once."""
    if isinstance(value, str):
        return list(dict.fromkeys(_name(match) for match in _PLACEHOLDER.finditer(value)))
    parts = value.values() if isinstance(value, dict) else value
    inner = parts if isinstance(value, dict | list) else ()
    return list(dict.fromkeys(name for part in inner for name in mentioned(part)))


def _name(match: re.Match[str]) -> str:
    """Return the image's name; with a part that there is not, which is a name of no image."""
    return match[1] if match[2] in {None, *_PARTS} else f"{match[1]}:{match[2]}"


def _mark(metadata: dict[str, Any], labels: Mapping[str, str], content: str | None) -> None:
    _table(metadata, "labels").update(labels)
    if content is not None:
        _table(metadata, "annotations")[CONTENT_ANNOTATION] = content


def _add_pull_secret(obj: KubeObject, name: str) -> None:
    for spec in pod_specs(obj):
        named = spec.get("imagePullSecrets") or []
        if {"name": name} not in named:
            spec["imagePullSecrets"] = [*named, {"name": name}]


def _set_image(
    field: ImageField,
    images: Mapping[str, str],
    pin: Collection[str],
    placeholders: Mapping[str, str],
) -> None:
    written = str(field.table.get(field.key))
    reference = images.get(written) or _filled(written, placeholders)
    if reference != written:
        field.table[field.key] = reference
    elif written not in images and written not in pin:
        return
    # Without it `latest`, and a reference without a tag, would be pulled at each start.
    if field.policy:
        field.table[field.policy] = "IfNotPresent"


def _fill_in(container: dict[str, Any], references: Mapping[str, str]) -> None:
    for key in ("command", "args"):
        if isinstance(container.get(key), list):
            container[key] = [_filled(value, references) for value in container[key]]
    for variable in _variables(container):
        variable["value"] = _filled(variable["value"], references)


def _filled(value: Any, references: Mapping[str, str]) -> Any:
    def replace(match: re.Match[str]) -> str:
        reference = references.get(match[1])
        if reference is None:
            return match[0]
        repository, tag = split(reference)
        return {"repository": repository, "tag": tag}.get(match[2], reference)

    return _PLACEHOLDER.sub(replace, value) if isinstance(value, str) else value


def _texts(container: dict[str, Any]) -> Iterator[str]:
    """Yield each string of a container in which placeholders count."""
    lists = [container.get(key) or () for key in ("command", "args")]
    values = [value for part in lists if isinstance(part, list) for value in part]
    values += [variable["value"] for variable in _variables(container)]
    yield from (value for value in values if isinstance(value, str))


def _variables(container: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for variable in container.get("env") or ():
        if isinstance(variable, dict) and "value" in variable:
            yield variable


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the table at `key`, made if it is missing or was left empty (`labels:`)."""
    if not isinstance(parent.get(key), dict):
        parent[key] = {}
    table: dict[str, Any] = parent[key]
    return table

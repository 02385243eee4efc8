"""Objects of a test's own: read, given the images of the run, applied and deleted again."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import KindInfraError, listed
from pytest_kindinfra.kube.apply import is_ending
from pytest_kindinfra.kube.cluster import run_of
from pytest_kindinfra.kube.discovery import UnknownKindError
from pytest_kindinfra.kube.objects import applying_order, parse_objects
from pytest_kindinfra.kube.pods import owner_uid
from pytest_kindinfra.kube.rewrite import (
    ImagesInUse,
    image_references_at,
    placeholder_names,
    rewrite,
)
from pytest_kindinfra.kube.yaml import as_json
from pytest_kindinfra.model import RUN_LABEL, TEST_LABEL, Image
from pytest_kindinfra.plan.facts import match_references
from pytest_kindinfra.system.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.kube.rewrite import ImagePaths
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.records import DeployedService
    from pytest_kindinfra.system.timeline import Deadline


_DIGITS = 16


_EVERY = 0.1


_NEEDED = ("apiVersion", "kind", "metadata")


def read_objects(given: Any, *, folder: Path) -> list[KubeObject]:
    """Return the objects that a test gives, in the order in which they are applied.

    Args:
        given: The path of a YAML file, a mapping, or an iterable of both.
        folder: Where relative paths start.

    Raises:
        KindInfraError: A file cannot be read, or something is no object; all problems.
        TypeError: It is something else.
    """
    problems: list[str] = []
    objects = list(_read(given, folder, problems))
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        msg = f"these are no objects that can be applied:\n{lines}"
        raise KindInfraError(msg)
    if not objects:
        msg = f"there are no objects in {given!r}"
        raise KindInfraError(msg)
    return applying_order(objects)


def _read(given: Any, folder: Path, problems: list[str]) -> Iterable[KubeObject]:
    if isinstance(given, str | os.PathLike):
        yield from _read_file(folder / Path(given), problems)
    elif isinstance(given, Mapping):
        yield from _read_mapping(given, problems)
    elif isinstance(given, Iterable):
        for one in given:
            yield from _read(one, folder, problems)
    else:
        msg = f"expected the path of a YAML file, an object or several, not {given!r}"
        raise TypeError(msg)


def _read_file(path: Path, problems: list[str]) -> Iterable[KubeObject]:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(f"{path}: {why}")
        return
    objects, wrong = parse_objects(text, source=str(path))
    problems += wrong
    yield from objects


def _read_mapping(given: Mapping[str, Any], problems: list[str]) -> Iterable[KubeObject]:
    missing = [key for key in _NEEDED if not given.get(key)]
    named = isinstance(given.get("metadata"), Mapping) and given["metadata"].get("name")
    if missing or not named:
        lack = missing or ["metadata.name"]
        problems.append(f"an object without {listed(lack)}: {dict(given)!r}")
        return
    try:
        yield as_json(dict(given))
    except ValueError as error:
        problems.append(f"{given['kind']} {given['metadata']['name']!r}: {error}")


class Images:
    """What image references in a test's objects become: the same as in those of services.

    Args:
        deployed: The services that are ready; what they run is in the kind nodes.
        built: Declared images that this run has built, for messages.
    """

    def __init__(self, deployed: Iterable[DeployedService], built: Iterable[str]) -> None:
        records = list(deployed)
        self._references: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._loaded: set[str] = set()
        self._pull = next((record.pull for record in records if record.pull), None)
        names: dict[str, tuple[str, ...]] = {}
        for record in records:
            self._references |= record.references
            self._written |= record.written
            self._loaded |= set(record.loaded)
            names |= record.names
        self._known = [Image(name=name, names=names.get(name, ())) for name in self._references]
        self._elsewhere = [Image(name=name) for name in set(built) - set(self._references)]

    def put_in(self, obj: KubeObject, labels: Mapping[str, str]) -> KubeObject:
        """Return a copy of an object with the references of this run, and with labels.

        Raises:
            KindInfraError: It names an image that no ready service runs, or nearly one.
        """
        images = self.of([obj])
        return rewrite(
            obj,
            images=images.written,
            namespace=None,
            labels=labels,
            pin=images.loaded,
            placeholders=images.declared,
            pull=images.pull,
        )

    def of(self, objects: Iterable[KubeObject], paths: ImagePaths = ()) -> ImagesInUse:
        """Return what becomes of the image references in some objects.

        Args:
            objects: The objects, as written.
            paths: Where custom resources name their images.

        Raises:
            KindInfraError: One names an image that no ready service runs, or nearly one.
        """
        written = dict(self._written)
        for obj in objects:
            uses = match_references(image_references_at(obj, paths), self._known)
            problems = [*uses.problems.values(), *self._not_loaded(uses.external)]
            problems += self._unknown_placeholders(obj, paths)
            if problems:
                lines = "\n".join(f"  - {problem}" for problem in problems)
                msg = f'{obj["kind"]} "{obj["metadata"]["name"]}" cannot be applied:\n{lines}'
                raise KindInfraError(msg)
            written |= {text: self._references[name] for text, name in uses.images.items()}
        return ImagesInUse(
            written=written,
            loaded=frozenset(self._loaded),
            declared=self._references,
            pull=self._pull,
        )

    def _not_loaded(self, external: Iterable[str]) -> list[str]:
        found = match_references(external, self._elsewhere).images
        return [_not_there(written, name) for written, name in found.items()]

    def _unknown_placeholders(self, obj: KubeObject, paths: ImagePaths) -> list[str]:
        names = [name for name in placeholder_names(obj, paths) if name not in self._references]
        return [_not_there(f"${{image:{name}}}", name) for name in names]


def _not_there(written: str, name: str) -> str:
    return (
        f'image "{written}": no service that is ready runs the image "{name}", so it may not be in '
        "the cluster\n    To fix: mark the test with a service that has "
        f'images = ["{name}"]'
    )


def labels_of(test: str, run_id: str) -> dict[str, str]:
    """Return the labels of a test's objects."""
    return {TEST_LABEL: sha256(test.encode()).hexdigest()[:_DIGITS], RUN_LABEL: run_id}


def refuse_taken(
    kube: Kube, objects: Sequence[KubeObject], namespace: str, labels: Mapping[str, str],
    deadline: Deadline,
) -> None:  # fmt: skip
    """Raise if an object is in the cluster already and not of this test: it would be deleted.

    What an earlier test has deleted and is on its way out is waited for. What a test of an earlier
    run has left, since its process was killed, is deleted, unless the cluster is shared: there its
    run may still go on.

    Raises:
        KindInfraError: One is there; names it.
    """
    for obj in objects:
        try:
            path = kube.path_of(obj, namespace=namespace)
        except UnknownKindError:  # its CRD may be among the objects
            continue
        found = _settled(kube, path, deadline)
        if found and _is_left_behind(kube, found, labels):
            kube.delete_if(path, partial(_is_left_behind, kube, labels=labels))
            found = _settled(kube, path, deadline)
        if found and not _has_labels(found, labels):
            raise KindInfraError(_taken(found, labels))


def _settled(kube: Kube, path: str, deadline: Deadline) -> KubeObject | None:
    """Return what there is at a path, None if nothing is, or only for the moment."""
    found: KubeObject | None = None

    def settled() -> bool:
        nonlocal found
        found = kube.get(path)
        return found is None or not is_ending(found)

    wait_until(settled, deadline, every=_EVERY)
    return found


def _is_left_behind(kube: Kube, found: KubeObject, labels: Mapping[str, str]) -> bool:
    """Whether a test of an earlier run made an object, in a cluster that one run has at a time."""
    of_test = TEST_LABEL in (found["metadata"].get("labels") or {})
    return of_test and run_of(found) != labels[RUN_LABEL] and kube.is_owned(found)


def _taken(found: KubeObject, labels: Mapping[str, str]) -> str:
    meta, kind, run = found["metadata"], found["kind"], run_of(found)
    namespace = meta.get("namespace")
    title = f'{kind} "{meta["name"]}"' + (f' in namespace "{namespace}"' if namespace else "")
    if run in {"", labels[RUN_LABEL]} or TEST_LABEL not in meta["labels"]:
        return (
            f"{title} exists already, and was not created by this test, which would delete it at "
            "its end\nTo fix: give it another name, or another namespace (kindinfra_namespace)"
        )
    place = f" -n {namespace}" if namespace else ""
    return (
        f"{title} exists already: a test of run {run} created it, and still runs or was killed"
        f"\nTo fix: if that run has ended: kubectl delete {kind.lower()} {meta['name']}{place}"
    )


def outlines(objects: Iterable[KubeObject], namespace: str) -> list[KubeObject]:
    """Return apiVersion, kind, name and namespace of objects, in their order."""
    made = []
    for obj in objects:
        meta = {"name": obj["metadata"]["name"]}
        meta["namespace"] = obj["metadata"].get("namespace") or namespace
        made.append({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta})
    return made


def delete_objects(kube: Kube, objects: Sequence[KubeObject], labels: Mapping[str, str]) -> None:
    """Ask for the end of a test's objects, the last one first; their end is not waited for.

    Raises:
        KindInfraError: One could not be deleted; the others are.
    """
    problems = []
    for obj in reversed(objects):
        try:
            path = kube.path_of(obj, namespace="")
            kube.delete_if(path, lambda found: _has_labels(found, labels))
        except UnknownKindError:  # its CRD is gone, and so is the object
            continue
        except KindInfraError as error:
            problems.append(str(error))
    if problems:
        raise KindInfraError("\n".join(problems))


def pods_of_job(kube: Kube, job: KubeObject) -> list[KubeObject]:
    """Return the pods of a Job."""
    meta = job["metadata"]
    pods = kube.list_(f"/api/v1/namespaces/{meta['namespace']}/pods")
    return [pod for pod in pods if owner_uid(pod) == meta["uid"]]


def _has_labels(found: KubeObject, labels: Mapping[str, str]) -> bool:
    there = found["metadata"].get("labels") or {}
    return all(there.get(key) == value for key, value in labels.items())

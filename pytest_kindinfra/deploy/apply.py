"""Apply a service's objects with the images of this run; call its Python function."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.deploy.pullsecret import PullSecretPlaces
from pytest_kindinfra.errors import KindInfraError, listed
from pytest_kindinfra.kube.objects import group
from pytest_kindinfra.kube.rewrite import content_hash, placeholder_names, rewrite
from pytest_kindinfra.kube.targets import expose_service, find_target, target_name
from pytest_kindinfra.kube.yaml import as_json
from pytest_kindinfra.names import service_labels
from pytest_kindinfra.plan.manifests import matching_files
from pytest_kindinfra.system.timeline import call_within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.kube.apply import Outlook
    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.kube.rewrite import ImagesInUse
    from pytest_kindinfra.model import KubeObject, PortMapping, Service
    from pytest_kindinfra.system.timeline import Deadline


_DIGITS = 16


def inputs_hash(service: Service, folder: Path) -> str:
    """Return a hash of a step's name, its module and its input files.

    Args:
        service: A service with `run`.
        folder: Where the patterns of `inputs` start, and where its module is looked for first.

    Returns:
        The hash, empty for a step that names no inputs: it is unknown what it reads.

    Raises:
        KindInfraError: A file cannot be read.
    """
    if not service.inputs:
        return ""
    total = sha256(str(service.run).encode())
    try:
        for path in [*_module_files(service, folder), *_input_files(service, folder)]:
            total.update(str(path).encode() + b"\0" + sha256(path.read_bytes()).digest())
    except OSError as error:
        msg = f"[services.{service.name}] inputs: {error}"
        raise KindInfraError(msg) from error
    return total.hexdigest()[:_DIGITS]


def _module_files(service: Service, folder: Path) -> list[Path]:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.find_spec(str(service.run).partition(":")[0])
    except (ImportError, ValueError):  # the call of the step says what is wrong
        return []
    origin = Path(spec.origin) if spec and spec.origin else None
    return [origin] if origin and origin.is_file() else []


def _input_files(service: Service, folder: Path) -> list[Path]:
    """Return the files that the check of the declaration found."""
    found = {path for pattern in service.inputs for path in matching_files(pattern, folder)}
    return sorted(folder / path for path in found)


SHARED = "SHARED"
"""The label's value at an object that several services have: no service, since names are in lower
case, so that none deletes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where objects go."""

    kube: Kube
    namespace: str


def apply_objects(
    service: Service,
    objects: Sequence[KubeObject],
    *,
    images: ImagesInUse,
    target: Target,
    deadline: Deadline,
    content: str | None = None,
    shared: Collection[KubeObject] = (),
    outlook: Outlook | None = None,
    make_namespace: Callable[[str], object] = lambda _name: None,
) -> tuple[KubeObject, ...]:
    """Apply `objects` in their order and return them as applied, without defaults of a Job.

    Args:
        service: Whose they are.
        objects: As written.
        images: What becomes of image references.
        target: Where they go.
        deadline: When to give up.
        content: What pods are restarted by when it changes; None means a hash of `objects`.
        shared: Objects that other services have too, exactly alike.
        outlook: What may still bring what an object lacks; None means nothing.
        make_namespace: Called with each namespace that an object names, once, before the object is
            applied.

    Raises:
        KindInfraError: The API server refused one.
        CancelledError: The run is ending.
    """
    content = content or content_hash(objects)  # a changed ConfigMap restarts who reads it
    applied, named = [], set()
    secrets = PullSecretPlaces(images.pull, target.kube, deadline)
    hopes: dict[str, Any] = {} if outlook is None else {"outlook": outlook}
    for obj in objects:
        kube, namespace = target.kube, _namespace(obj, target)
        if (own := obj.get("metadata", {}).get("namespace")) and own not in named:
            named.add(own)
            make_namespace(own)
        ready = rewrite(
            obj,
            images=images.written,
            pin=images.loaded,
            placeholders=images.declared,
            namespace=None,  # filled in by apply, which knows what is namespaced
            labels=service_labels(SHARED if obj in shared else service.name),
            content=content,
            paths=service.images_at,
            pull=images.pull,
        )
        secrets.serve(ready, namespace)
        stored = kube.apply(ready, namespace=namespace, deadline=deadline, **hopes)
        applied.append(_as_written(stored, ready))
        if obj["kind"] == "CustomResourceDefinition":
            kube.wait_established(obj, deadline)
        if obj["kind"] == "Namespace":
            kube.ensure_namespace(obj["metadata"]["name"], deadline, {})
    return tuple(applied)


def _as_written(stored: KubeObject, written: KubeObject) -> KubeObject:
    """Return an object as stored, but a Job with what was written: it may say how often it fails.

    The server fills in `backoffLimit: 6`, which then cannot be told from one that was meant.
    """
    return {**stored, "spec": written["spec"]} if _is_job(written) else stored


def _is_job(obj: KubeObject) -> bool:
    return obj["kind"] == "Job" and group(obj) == "batch" and isinstance(obj.get("spec"), dict)


def node_port_services(
    service: Service, objects: Iterable[KubeObject], ports: Iterable[PortMapping]
) -> tuple[KubeObject, ...]:
    """Return the added k8s services that give the endpoints their NodePorts.

    Args:
        service: The declared service.
        objects: All objects among which the k8s services and workloads are looked for, the
            service's own first.
        ports: The port mappings of this service.
    """
    known = tuple(objects)
    by_endpoint = {port.endpoint: port for port in ports if not port.in_manifest}
    made = []
    for spec in service.endpoints:
        if mapping := by_endpoint.get(spec.name):
            target = find_target(spec, service.name, known)
            if target is None:
                kind, name = target_name(spec, service.name)
                msg = f'endpoint "{spec.name}": there is no {kind} "{name}" among the manifests'
                raise KindInfraError(msg)
            made.append(expose_service(spec, service.name, target, node_port=mapping.node_port))
    return tuple(made)


def run_function(
    service: Service, stack: Stack, *, folder: Path, deadline: Deadline
) -> tuple[KubeObject, ...]:
    """Call the service's Python step and return the objects that it wants applied.

    Args:
        service: A service with `run = "module:function"`.
        stack: What the run brought up so far.
        folder: Goes on `sys.path`, so that the module is found.
        deadline: When to stop waiting for it.

    Raises:
        KindInfraError: There is no such function, or it returned something else.
    """
    module_name, _, name = (service.run or "").partition(":")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        msg = f'[services.{service.name}] run = "{service.run}": {error}'
        raise KindInfraError(msg) from error
    returned = call_within(lambda: function(stack), deadline, what=f'run = "{service.run}"')
    return _as_objects(service, returned)


def _as_objects(service: Service, returned: Any) -> tuple[KubeObject, ...]:
    if returned is None:
        return ()
    several = isinstance(returned, Iterable) and not isinstance(returned, Mapping | str)
    objects = tuple(returned) if several else (returned,)
    for obj in objects:
        if not _is_object(obj):
            msg = f'"{service.run}" returned {obj!r}; expected None, an object or several'
            raise KindInfraError(msg)
    return tuple(_read(service, obj) for obj in objects)


def _read(service: Service, obj: Mapping[str, Any]) -> KubeObject:
    """Return an object as JSON has it, as objects of manifests are."""
    try:
        read: KubeObject = as_json(_plain(obj))
    except ValueError as error:
        msg = f'"{service.run}" returned {obj!r}: {error}'
        raise KindInfraError(msg) from error
    unknown = [
        name for name in placeholder_names(read, service.images_at) if name not in service.images
    ]
    if unknown:
        msg = (
            f'"{service.run}" returned {read["kind"]} "{read["metadata"]["name"]}" with the'
            f" placeholder ${{image:{unknown[0]}}}, but the service has the images"
            f" {listed(service.images)}\n"
            f'To fix: set [services.{service.name}] images = ["{unknown[0]}"], or correct the name'
        )
        raise KindInfraError(msg)
    return read


def _plain(value: Any) -> Any:
    """Return tables of any type as dicts, and tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _is_object(obj: Any) -> bool:
    named = isinstance(obj, Mapping) and isinstance(obj.get("metadata"), Mapping)
    return named and all((obj.get("kind"), obj.get("apiVersion"), obj["metadata"].get("name")))


def _namespace(obj: KubeObject, target: Target) -> str:
    return str(obj.get("metadata", {}).get("namespace") or target.namespace)

"""What a test process must know of a deployed service to change it and see it whole again.

Written once by whoever deployed it, before the result that says that it is ready. Values of
objects, such as those of Secrets, are not in it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.kube.objects import is_hook
from pytest_kindinfra.model import PATIENCE, Endpoint, EndpointSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kindinfra.model import Image, ImagesInUse, KubeObject, Service
    from pytest_kindinfra.state.directory import RunDirectory


_PREFIX = "deployed-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How an endpoint was asked, so that it can be asked again.

    Attributes:
        spec: The declared endpoint.
        host: The address of this host on which it is reached.
        host_port: The port of this host.
        node: The kind node's address and the NodePort; None where there is none.
        backend: Namespace, labels and port of the pods that a port-forward leads to; None where
            there is no port-forward.
    """

    spec: EndpointSpec
    host: str
    host_port: int
    node: tuple[str, int] | None = None
    backend: Mapping[str, Any] | None = None

    def endpoint(self, service: str) -> Endpoint:
        """Return the endpoint as tests get it."""
        return Endpoint(
            service=service,
            name=self.spec.name,
            scheme=self.spec.scheme,
            host=self.host,
            port=self.host_port,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A service that became ready.

    Attributes:
        service: Its name.
        namespace: Where objects are that name none.
        objects: Of each object apiVersion, kind, and of its metadata name and namespace; without
            a chart's hooks, which helm may have deleted.
        probes: Its endpoints.
        restarts: Restarts of a container that are no failure.
        patience: Seconds for a trouble that may pass by itself.
        timeout: Seconds until it must be ready.
        ready: What its custom resources must say, as in the declaration.
        run: Its Python step, empty if it has none.
        needs: The services that it needs.
        references: Declared image to the reference that pods run.
        names: Declared image to further references in manifests that mean it.
        written: External references to what pods run in their place.
        loaded: External references that are in the kind nodes as they are.
    """

    service: str
    namespace: str
    objects: tuple[KubeObject, ...] = ()
    probes: tuple[Probe, ...] = ()
    restarts: int = 2
    patience: float = PATIENCE
    timeout: float = 600.0
    ready: tuple[tuple[str, str], ...] = ()
    run: str = ""
    needs: tuple[str, ...] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    written: Mapping[str, str] = field(default_factory=dict)
    loaded: tuple[str, ...] = ()

    @property
    def namespaces(self) -> list[str]:
        """The namespaces of its objects."""
        found = {obj["metadata"].get("namespace") for obj in self.objects}
        return sorted({self.namespace, *found} - {None, ""})


def deployed_of(
    service: Service,
    applied: Iterable[KubeObject],
    probes: tuple[Probe, ...],
    *,
    namespace: str,
    timeout: float,
    images: ImagesInUse,
    declared: Iterable[Image],
) -> Deployed:
    """Return the record of a service.

    Args:
        service: The service, which is ready.
        applied: Its objects as they were applied.
        probes: Its endpoints, which have answered.
        namespace: Where objects are that name none.
        timeout: Seconds until it must be ready.
        images: What it runs.
        declared: All images of the plan.
    """
    return Deployed(
        service=service.name,
        namespace=namespace,
        objects=tuple(_outline(obj) for obj in applied if not is_hook(obj)),
        probes=probes,
        restarts=service.restarts,
        patience=service.patience,
        timeout=timeout,
        ready=service.ready,
        run=service.run or "",
        needs=tuple(need.name for need in service.needs),
        references=dict(images.declared),
        names={one.name: one.names for one in declared if one.name in images.declared},
        written={
            written: runs
            for written, runs in images.written.items()
            if runs not in images.declared.values()
        },
        loaded=tuple(sorted(images.loaded)),
    )


def write_deployed(run: RunDirectory, record: Deployed) -> None:
    """Leave the record for the processes of the run."""
    run.write(f"{_PREFIX}{record.service}", asdict(record))


def read_deployed(run: RunDirectory, service: str) -> Deployed | None:
    """Return the record of a service, None if it is not ready.

    Raises:
        StateError: What is there cannot be believed.
    """
    found = run.read(f"{_PREFIX}{service}")
    return None if found is None else _read(found)


def all_deployed(run: RunDirectory) -> list[Deployed]:
    """Return the records of all services that are ready by now."""
    return [_read(found) for found in run.read_all(_PREFIX).values()]


def _outline(obj: KubeObject) -> KubeObject:
    meta = obj["metadata"]
    keys = {key: meta[key] for key in ("name", "namespace") if meta.get(key)}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": keys}


def _read(found: Mapping[str, Any]) -> Deployed:
    return Deployed(
        **{
            **found,
            "objects": tuple(found["objects"]),
            "probes": tuple(map(_read_probe, found["probes"])),
            "ready": tuple((kind, rule) for kind, rule in found["ready"]),
            "names": {name: tuple(names) for name, names in found["names"].items()},
            "needs": tuple(found["needs"]),
            "loaded": tuple(found["loaded"]),
        }
    )


def _read_probe(found: Mapping[str, Any]) -> Probe:
    node = found["node"]
    spec, node = EndpointSpec(**found["spec"]), (node[0], node[1]) if node else None
    return Probe(**{**found, "spec": spec, "node": node})

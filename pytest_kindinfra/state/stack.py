"""What tests, hooks and run steps see of the stack: a view of the run's result files.

Every process has its own; nothing is kept but what the files say, so all see the same.
It must not know who provisions, nor pytest.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.state.clusterrecords import DeployedTo
from pytest_kindinfra.state.codec import file_name, to_json
from pytest_kindinfra.state.records import (
    ClusterReady,
    ImageLoaded,
    ImageReady,
    PlanMade,
    ServiceReady,
)
from pytest_kindinfra.state.results import Failed, Result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Endpoint
    from pytest_kindinfra.state.directory import RunDirectory

R = TypeVar("R", bound=Result)


class StackView:
    """What a run brought up: cluster, namespace, images, endpoints.

    In a test it waits for what the run is still bringing up. In a hook or a `run` step it has
    what is ready so far, and asking for more is an error.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        waits: bool = True,
        proved: Mapping[str, tuple[Endpoint, ...]] | None = None,
        cluster: ClusterReady | None = None,
        worker: str = "",
        namespace: str | None = None,
        patience: float = 0.0,
    ) -> None:
        self._run = run
        self._waits = waits
        self._patience = patience
        self._proved = proved or {}
        self._given_cluster = cluster
        self._worker = worker
        self._given_namespace = namespace

    def given(self) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Return what it knows that no file says, as records: endpoints, and the cluster."""
        endpoints = [asdict(one) for found in self._proved.values() for one in found]
        return endpoints, to_json(self._given_cluster) if self._given_cluster else None

    def url(self, service: str, endpoint: str | None = None) -> str:
        """Return `scheme://127.0.0.1:PORT` of an endpoint; without a name, the first declared.

        Raises:
            KindInfraError: No selected test needs that service, or it has no such endpoint.
            NotReadyError: The service failed.
        """
        return self.endpoint(service, endpoint).url

    def endpoint(self, service: str, endpoint: str | None = None) -> Endpoint:
        """Return an endpoint; without a name, the first one declared.

        Raises:
            KindInfraError: No selected test needs that service, or it has no such endpoint.
            NotReadyError: The service failed.
        """
        found = self.endpoints(service)
        for one in found:
            if endpoint in (None, one.name):
                return one
        names = ", ".join(one.name for one in found) or "none"
        wanted = "endpoints" if endpoint is None else f'endpoint "{endpoint}"'
        msg = f'service "{service}" has no {wanted}; declared: {names}'
        raise KindInfraError(msg)

    def endpoints(self, service: str) -> tuple[Endpoint, ...]:
        """Return all endpoints of a service, in the order of declaration."""
        if (name := self._own(service)) in self._proved:
            return self._proved[name]  # a hook is called before the result is written
        return self._service(service).endpoints

    @cached_property
    def kubeconfig(self) -> Path:
        """The file with the cluster's credentials."""
        return self._cluster.kubeconfig

    @property
    def kube(self) -> Any:
        """A `kubernetes.client.ApiClient` for the cluster, made at first use."""
        return self.api.client()

    @cached_property
    def api(self) -> Kube:
        """The cluster's API as this project speaks it."""
        from pytest_kindinfra.kube.cluster import Kube

        return Kube(self.kubeconfig, patience=self._patience)

    def close(self) -> None:
        """Close connections to the cluster, if there are any."""
        if "api" in vars(self):
            self.api.close()

    @property
    def namespace(self) -> str:
        """Where services are deployed."""
        return self._given_namespace or self._declared_namespace

    @cached_property
    def _declared_namespace(self) -> str:
        return self._cluster.namespace

    @property
    def services(self) -> tuple[str, ...]:
        """The services of the run, in the order of their needs.

        A worker's copy of a service per worker has a name such as `web.gw1`. A worker's tests have
        theirs under the declared name; hooks at the end of a run have all of them.
        """
        return self._get(PlanMade).services

    @cached_property
    def cluster(self) -> str:
        """The cluster's name."""
        return self._cluster.name

    @property
    def run_id(self) -> str:
        """The run's id, which is in the names and labels of what it makes.

        In an existing cluster with reuse it is the id of the first run there.
        """
        record = self._run.read(DeployedTo)
        return record.run_id if record else self._run.path.name

    @property
    def images(self) -> dict[str, str]:
        """The declared images that are built so far: name to the full reference that pods run.

        That is the name in the registry once an image went through one.
        """
        built, loaded = self._run.read_all(ImageReady), self._run.read_all(ImageLoaded)
        references = {name: ready.image.reference for name, ready in built.items()}
        return references | {name: image.reference for name, image in loaded.items()}

    @property
    def _cluster(self) -> ClusterReady:
        return self._given_cluster or self._get(ClusterReady)

    def _own(self, service: str) -> str:
        """Return what this process has under a service's name: the worker's copy if it has one."""
        return self._get(PlanMade).own(service, self._worker) if self._worker else service

    def _service(self, service: str) -> ServiceReady:
        planned, name = self._get(PlanMade).services, self._own(service)
        if copies := [one for one in planned if one.startswith(f"{name}.")]:
            msg = (
                f'each worker has its own copy of service "{service}"\n'
                f"To fix: name one of them: {', '.join(copies)}"
            )
            raise KindInfraError(msg)
        if name not in planned:
            msg = (
                f'no selected test needs service "{service}"; this run has: '
                f"{', '.join(sorted(planned)) or 'none'}\n"
                f'To fix: mark the test with @pytest.mark.kindinfra("{service}")'
            )
            raise KindInfraError(msg)
        return self._get(ServiceReady, name)

    def _get(self, kind: type[R], name: str = "") -> R:
        run = self._run
        result = run.wait_for(kind, name) if self._waits else run.settled(kind, name)
        if result is None:
            what = file_name(kind, name).replace("-", " ", 1)
            msg = f"{what}: not deployed yet\nTo fix: add it to `needs`"
            raise NotReadyError(msg)
        if isinstance(result, Failed):
            raise NotReadyError(result.short)
        return result

"""Endpoints of services in an existing cluster: ports of this host that lead to their pods.

Part of a service's line; no NodePort of ours is made there, and nothing has to be mapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.exposing import find_port, find_target, selector, target_name
from pytest_kindinfra.steps.expose import prove_endpoint
from pytest_kindinfra.timeline import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.kube import Backend, Forward, OurKube
    from pytest_kindinfra.model import Endpoint, EndpointSpec, KubeObject, Plan, Service
    from pytest_kindinfra.timeline import Deadline

_EVERY = 0.2
_VERSIONS = {"Service": "v1", "Pod": "v1", "Job": "batch/v1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """One service whose endpoints are asked through forwards.

    Attributes:
        service: The service, which is ready.
        plan: Among whose objects the endpoints' k8s services and workloads are.
        namespace: Where objects are that name none.
        kube: The cluster.
        meanwhile: May raise because waiting makes no sense.
        deadline: When to give up.
    """

    service: Service
    plan: Plan
    namespace: str
    kube: OurKube
    meanwhile: Callable[[], object]
    deadline: Deadline

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the service's endpoints, each of which has answered.

        Raises:
            NotReadyError: One did not answer in time.
            KindInfraError: There is nothing that it could lead to.
        """
        return tuple(self._prove(spec) for spec in self.service.endpoints)

    def _prove(self, spec: EndpointSpec) -> Endpoint:
        name = self.service.name
        forward = self.kube.forwards.open(
            self._backend(spec), port=spec.host_port, name=f"{name}.{spec.name}"
        )
        if spec.scheme == "tcp" and not spec.expect:
            self._await_far_end(spec, forward)
        return prove_endpoint(
            name,
            spec,
            host_port=forward.port,
            node=None,
            meanwhile=self.meanwhile,
            deadline=self.deadline,
        )

    def _await_far_end(self, spec: EndpointSpec, forward: Forward) -> None:
        """Wait until the pod takes connections: our own port does so before."""
        last = ""

        def reached() -> bool:
            nonlocal last
            try:
                forward.check()
            except KindInfraError as error:
                last = str(error)
                self.meanwhile()
                return False
            return True

        if not wait_until(reached, self.deadline, every=_EVERY):
            msg = (
                f'endpoint "{spec.name}" of "{self.service.name}" did not answer'
                f"{self.deadline.set_by_option()}: {spec.scheme}://127.0.0.1:{forward.port}: {last}"
            )
            raise NotReadyError(msg)

    def _backend(self, spec: EndpointSpec) -> Backend:
        from pytest_kindinfra.kube import Backend

        target = self._live_target(spec)
        kind, name, port = target["kind"], target["metadata"]["name"], spec.port
        if spec.workload is None:
            entry = find_port(target, spec.port)
            if entry is None:
                msg = f'endpoint "{spec.name}": k8s service "{name}" has no TCP port {spec.port}'
                raise KindInfraError(msg)
            port = entry.get("targetPort") or entry["port"]
        if not (labels := selector(target)):
            msg = f'endpoint "{spec.name}": {kind} "{name}" selects no pods to lead to'
            raise KindInfraError(msg)
        return Backend(namespace=target["metadata"]["namespace"], labels=labels, port=port)

    def _live_target(self, spec: EndpointSpec) -> KubeObject:
        """Return the k8s service or workload as the cluster has it, which may be another's."""
        kind, name = target_name(spec, self.service.name)
        own = self.plan.objects.get(self.service.name, ())
        known = (*own, *(obj for others in self.plan.objects.values() for obj in others))
        written = find_target(spec, self.service.name, known) or {
            "apiVersion": _VERSIONS.get(kind, "apps/v1"),
            "kind": kind,
            "metadata": {"name": name},
        }
        if live := self.kube.get(self.kube.path_of(written, namespace=self.namespace)):
            return live
        msg = (
            f'endpoint "{spec.name}": there is no {kind} "{name}", neither among the manifests '
            "nor in the cluster"
        )
        raise KindInfraError(msg)

"""Endpoints: a request from this host must be answered before a test gets the address.

Through a NodePort where the cluster has kind nodes here, else through a port-forward.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.kube.cluster import SharedKube
from pytest_kindinfra.kube.targets import find_port, find_target, selector, target_name
from pytest_kindinfra.kube.troubles import ServiceFailedError
from pytest_kindinfra.model import Endpoint, url_of
from pytest_kindinfra.plan.files import is_ipv6
from pytest_kindinfra.system.grpc import check_health
from pytest_kindinfra.system.timeline import monotonic, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra.deploy.renewal import Deployment
    from pytest_kindinfra.kube.portforward import Backend, Forward
    from pytest_kindinfra.model import EndpointSpec, KubeObject, Plan, Service
    from pytest_kindinfra.system.timeline import Deadline


HOST = "127.0.0.1"
"""Never `localhost`, which may resolve to an address that nobody listens on."""


_WEB = ("http", "https")


_EVERY = 0.05


_MEANWHILE_EVERY = 1.0


_ANSWER_WITHIN = 5.0


_HELD_OPEN = 0.1


_DIAL_WITHIN = 0.15
"""Seconds. A SYN that comes a moment before kube-proxy's rules is lost, and the system sends it
again only after a second; the engine's proxy would wait just so. Dialling anew instead, endpoints
of ready pods answered after 0.3 s (median of 24) instead of 1.09."""


_WITHOUT_ROUTE = 1.5
"""Seconds until what is asked something is asked through the host port though the kind node does
not answer."""


def prove_endpoint(
    service: str,
    spec: EndpointSpec,
    *,
    host_port: int,
    host: str = HOST,
    node: tuple[str, int] | None,
    deadline: Deadline,
    meanwhile: Callable[[], object] = lambda: None,
) -> Endpoint:
    """Return the endpoint once it has answered.

    Args:
        service: The service's name.
        spec: The declared endpoint.
        host_port: The port of this host.
        host: The address of this host on which it is reached.
        node: The kind node's address and NodePort; None where the host has no route to it.
        deadline: When to give up.
        meanwhile: Called about once a second; may raise because waiting makes no sense.

    Raises:
        NotReadyError: It did not answer in time; says what the last try met.
        CancelledError: The run is ending.
    """
    last = _LastTry()
    ask_next = monotonic() + _MEANWHILE_EVERY
    no_route = monotonic() + _WITHOUT_ROUTE

    def answers() -> bool:
        try:
            if node and (not _is_asked(spec) or monotonic() < no_route):
                socket.create_connection(node, timeout=_DIAL_WITHIN).close()
            return _answers(spec, (host, host_port))
        except (OSError, http.client.HTTPException, NotReadyError) as error:
            last.error = error
        nonlocal ask_next
        if monotonic() >= ask_next:
            ask_next = monotonic() + _MEANWHILE_EVERY
            meanwhile()
        return False

    if not wait_until(answers, deadline, every=_EVERY):
        target = f"{url_of(spec.scheme, host, host_port)}{spec.path or ''}"
        limit = deadline.set_by_option()
        msg = f'endpoint "{spec.name}" of "{service}" did not answer{limit}: {target}: {last.error}'
        raise NotReadyError(msg)
    return Endpoint(service=service, name=spec.name, scheme=spec.scheme, host=host, port=host_port)


class _LastTry:
    """What the last try met, for the message."""

    error: Exception | None = None


def _is_asked(spec: EndpointSpec) -> bool:
    """Whether the probe is a round trip, which no proxy can answer for the service."""
    return spec.scheme != "tcp" or bool(spec.expect)


def _answers(spec: EndpointSpec, address: tuple[str, int]) -> bool:
    if spec.scheme == "grpc":
        check_health(address, timeout=_ANSWER_WITHIN)
        return True
    return (_http_answers if spec.scheme in _WEB else _tcp_answers)(spec, address)


def _http_answers(spec: EndpointSpec, address: tuple[str, int]) -> bool:
    """Whether the path answers 2xx or 3xx; without a path any answer will do."""
    connection = (
        http.client.HTTPSConnection(*address, timeout=_ANSWER_WITHIN, context=_no_verification())
        if spec.scheme == "https"
        else http.client.HTTPConnection(*address, timeout=_ANSWER_WITHIN)
    )
    try:
        connection.request("GET", spec.path or "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    if spec.path and status >= HTTPStatus.BAD_REQUEST:
        msg = f"HTTP status {status}"
        raise NotReadyError(msg)
    return True


def _tcp_answers(spec: EndpointSpec, address: tuple[str, int]) -> bool:
    """Whether the connection stays open, or answers `send` with `expect`."""
    with socket.create_connection(address, timeout=_ANSWER_WITHIN) as connection:
        if spec.send:
            connection.sendall(spec.send.encode())
        if spec.expect:
            return _expected(connection, spec.expect.encode())
        connection.settimeout(_HELD_OPEN)
        try:
            if connection.recv(1) == b"":
                msg = "the connection was closed at once"
                raise NotReadyError(msg)
        except TimeoutError:
            return True
        return True


def _expected(connection: socket.socket, expect: bytes) -> bool:
    answer = b""
    while len(answer) < len(expect) and (part := connection.recv(4096)):
        answer += part
    if not answer.startswith(expect):
        msg = f"answered {answer!r} instead of {expect!r}"
        raise NotReadyError(msg)
    return True


def _no_verification() -> ssl.SSLContext:
    """Return a context for a probe that asks who is there, not who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_FORWARD_EVERY = 0.2


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
    kube: SharedKube
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

        if not wait_until(reached, self.deadline, every=_FORWARD_EVERY):
            msg = (
                f'endpoint "{spec.name}" of "{self.service.name}" did not answer'
                f"{self.deadline.set_by_option()}: {spec.scheme}://127.0.0.1:{forward.port}: {last}"
            )
            raise NotReadyError(msg)

    def _backend(self, spec: EndpointSpec) -> Backend:
        from pytest_kindinfra.kube.portforward import Backend

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


def prove(deployment: Deployment, applied: tuple[KubeObject, ...]) -> tuple[Endpoint, ...]:
    """Prove each endpoint, but stop as soon as what is behind them breaks for good.

    Raises:
        NotReadyError: One did not answer in time, or something is broken.
    """
    context, service = deployment.context, deployment.service
    if not service.endpoints:
        return ()
    health = deployment.kube.judge(
        applied, namespace=context.request.namespace, restarts=service.restarts,
        excused=deployment.unready, patience=service.patience,
    )  # fmt: skip
    if isinstance(deployment.kube, SharedKube):
        return Forwarding(
            service=service,
            plan=context.plan,
            namespace=context.request.namespace,
            kube=deployment.kube,
            meanwhile=health.check,
            deadline=deployment.deadline,
        ).endpoints()
    return tuple(_mapped(deployment, meanwhile=health.check))


def _mapped(deployment: Deployment, *, meanwhile: Callable[[], object]) -> Iterator[Endpoint]:
    """Prove the endpoints whose NodePorts are mapped to this host."""
    context, service, cluster = deployment.context, deployment.service, deployment.cluster
    ports = deployment.ports
    address = context.tools.kind_nodes.node_address(
        cluster.nodes[0], deployment.deadline, ipv6=is_ipv6(context.request.kind_config)
    )
    for spec in service.endpoints:
        try:
            yield prove_endpoint(
                service.name,
                spec,
                host=cluster.hosts.get(ports[spec.name].node_port, HOST),
                host_port=cluster.host_ports[ports[spec.name].node_port],
                node=(address, ports[spec.name].node_port),
                meanwhile=meanwhile,
                deadline=deployment.deadline,
            )
        except ServiceFailedError:
            raise
        except NotReadyError as error:
            raise _with_lack(error, deployment, spec) from error


def _with_lack(error: NotReadyError, deployment: Deployment, spec: EndpointSpec) -> NotReadyError:
    """Add that nobody is behind the endpoint's k8s service, if that is so."""
    name, plan = deployment.service.name, deployment.context.plan
    own, others = plan.objects.get(name, ()), plan.objects.values()
    target = find_target(spec, name, (*own, *(obj for objects in others for obj in objects)))
    if target and target["kind"] == "Service":
        with suppress(KindInfraError):
            namespace = deployment.context.request.namespace
            if lack := deployment.kube.lack_of_pods(target, namespace=namespace):
                return NotReadyError(f'{error}\nk8s service "{target["metadata"]["name"]}": {lack}')
    return error

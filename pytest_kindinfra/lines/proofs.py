"""The end of a service's line: each of its endpoints must answer.

Part of the recipe in `stack.py`; how one is asked is a step's affair.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.exposing import find_target
from pytest_kindinfra.kindconfig import is_ipv6
from pytest_kindinfra.kube import OurKube, ServiceFailedError
from pytest_kindinfra.lines.forwarded import Forwarding
from pytest_kindinfra.steps.expose import HOST, prove_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra.lines.deployment import Deployment
    from pytest_kindinfra.model import Endpoint, EndpointSpec, KubeObject


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
    if isinstance(deployment.kube, OurKube):
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
    address = context.tools.provider.node_address(
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

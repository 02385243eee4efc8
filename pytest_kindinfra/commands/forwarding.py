"""Endpoints for commands; in an existing cluster, ports of this process that lead to their pods.

A run forwards them for as long as it goes on, so that a command has to do it again for itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.backends import Backend
from pytest_kindinfra.system.answers import HOST, prove_endpoint

if TYPE_CHECKING:
    from pytest_kindinfra.kube.cluster import SharedKube
    from pytest_kindinfra.kube.portforward import Forward
    from pytest_kindinfra.model import Endpoint
    from pytest_kindinfra.state.clusterrecords import Deployed
    from pytest_kindinfra.state.records import DeployedService, Probe, ProbedPods
    from pytest_kindinfra.system.timeline import Deadline


def urls_of(deployed: Deployed) -> dict[str, str]:
    """Return endpoint to URL of a service, in the order of declaration."""
    return {one.name: one.url for one in deployed.endpoints}


def is_forwarded(record: DeployedService, endpoint: str) -> bool:
    """Whether an endpoint is reached only through a port that a process forwards."""
    return any(one.behind for one in record.probes if one.spec.name == endpoint)


def led_here(kube: SharedKube, record: DeployedService) -> DeployedService:
    """Return the record of a service with its endpoints on free ports of this process.

    Args:
        kube: The cluster; the ports lead there until its forwards are closed.
        record: The service as it was brought up.
    """
    probes = [
        replace(one, host=HOST, host_port=_open(kube, record, one, one.behind, None).port)
        if one.behind
        else one
        for one in record.probes
    ]
    return replace(record, probes=tuple(probes))


def why_silent(kube: SharedKube, record: DeployedService, deadline: Deadline) -> str:
    """Return why an endpoint of a service does not answer; empty if all do.

    Args:
        kube: The cluster.
        record: The service as it was brought up.
        deadline: When to give up.
    """
    try:
        for probe in record.probes:
            _prove(kube, record, probe, None, deadline)
    except KindInfraError as error:
        return str(error)
    return ""


def forwarded(
    kube: SharedKube, record: DeployedService, endpoint: str, deadline: Deadline
) -> Endpoint:
    """Forward a port of this process to an endpoint, and return the endpoint once it has answered.

    Args:
        kube: The cluster; the port leads there until its forwards are closed.
        record: The service as it was brought up.
        endpoint: The name of one of its endpoints.
        deadline: When to give up.

    Raises:
        NotReadyError: It did not answer in time.
        ClusterError: Its fixed port is taken.
    """
    probe = next(one for one in record.probes if one.spec.name == endpoint)
    return _prove(kube, record, probe, probe.spec.host_port, deadline)


def _prove(
    kube: SharedKube, record: DeployedService, probe: Probe, port: int | None, deadline: Deadline
) -> Endpoint:
    spec, host_port = probe.spec, probe.host_port
    if probe.behind:
        forward = _open(kube, record, probe, probe.behind, port)
        host_port = forward.port
        if spec.scheme == "tcp" and not spec.expect:  # the forwarded port takes connections itself
            what = f'endpoint "{spec.name}" of "{record.service}"'
            forward.await_far_end(what, meanwhile=lambda: None, deadline=deadline)
    return prove_endpoint(
        record.service,
        spec,
        host=probe.host,
        host_port=host_port,
        node=None,
        virtual_host=probe.virtual_host,
        deadline=deadline,
    )


def _open(
    kube: SharedKube, record: DeployedService, probe: Probe, behind: ProbedPods, port: int | None
) -> Forward:
    backend = Backend(namespace=behind.namespace, labels=behind.labels, port=behind.port)
    return kube.forwards.open(backend, port=port, name=f"{record.service}.{probe.spec.name}")

"""What pods request is compared with the machine before copies of services are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.model import Declaration, Plan, Service
from pytest_kindinfra.plan.requests import Amount, crowding, parse_quantity, requested


def workload(kind: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    init = spec.pop("init", [])
    pod = {"containers": list(containers), "initContainers": init}
    version = "batch/v1" if "Job" in kind else "apps/v1"
    inner: dict[str, Any] = {"template": {"spec": pod}, **spec}
    if kind == "CronJob":
        inner = {"jobTemplate": {"spec": inner}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": inner}


def container(cpu: str, memory: str, *, key: str = "requests") -> dict[str, Any]:
    return {"name": "x", "resources": {key: {"cpu": cpu, "memory": memory}}}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("500m", 0.5), ("2", 2.0), ("1.5", 1.5), ("1Gi", 2.0**30), ("1G", 1e9), ("10k", 1e4)),
        *(("1e3", 1000.0), (2, 2.0), ("nonsense", 0.0), ("1.2.3", 0.0), (None, 0.0)),
    ],
)
def test_quantities_are_numbers(text: Any, number: float) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    ("obj", "amount"),
    [
        (workload("Deployment", container("500m", "1G"), container("1", "2G")), Amount(1.5, 3e9)),
        (workload("StatefulSet", container("1", "1G"), replicas=3), Amount(3.0, 3e9)),
        (workload("Job", container("1", "1G"), parallelism=2), Amount(2.0, 2e9)),
        (workload("CronJob", container("1", "1G")), Amount()),
        (workload("Deployment", container("1", "1G", key="limits")), Amount(1.0, 1e9)),
        (
            workload("Deployment", container("1", "1G"), init=[container("500m", "4G")]),
            Amount(1.0, 4e9),
        ),
        (workload("Deployment", {"name": "x"}), Amount()),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}, Amount()),
    ],
)
def test_workloads_request_what_their_pods_do(obj: dict[str, Any], amount: Amount) -> None:
    assert requested([obj]) == amount


def plan(*names: str) -> Plan:
    services = tuple(Service(name=name, worker=name.partition(".")[2]) for name in names)
    one = workload("Deployment", container("1", "1G"))
    return Plan(
        declaration=Declaration(folder=Path()),
        services=services,
        objects=dict.fromkeys(names, (one,)),
    )


def test_copies_that_request_more_than_the_machine_has_are_told_with_numbers() -> None:
    assert list(crowding(plan("front", "db.gw0", "db.gw1"), Amount(2.0, 8e9))) == [
        (
            "the services request 3.0 CPUs and 3.0 GB of memory, 2.0 CPUs and 2.0 GB of memory of "
            "it for 2 copies for 2 workers; this machine has 2.0 CPUs and 8.0 GB of memory: pods "
            "may stay Pending; fewer workers (-n) or smaller requests help"
        )
    ]


def test_copies_that_fit_are_not_mentioned() -> None:
    assert not list(crowding(plan("front", "db.gw0"), Amount(2.0, 2e9)))
    assert not list(crowding(plan("front", "db.gw0"), Amount()))


def test_without_copies_nothing_is_said() -> None:
    assert not list(crowding(plan("front", "db"), Amount(1.0, 1e9)))

"""A plan gets a copy of each service per worker for each worker; what cannot be copied is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.kube.objects import Rendered
from pytest_kindinfra.model import (
    ClusterSpec,
    Declaration,
    EndpointSpec,
    Helm,
    Need,
    Plan,
    Release,
    Service,
)
from pytest_kindinfra.names import (
    service_labels,
    service_selector,
)
from pytest_kindinfra.plan.copies import near_objects, with_copies
from pytest_kindinfra.plan.resolve import resolve

Obj = dict[str, Any]

WORKERS = ("gw0", "gw1")
HTTP = EndpointSpec(name="http", port=80)


def service(name: str, *needs: str, per_worker: bool = True, **more: Any) -> Service:
    wanted = tuple(Need(name=need) for need in needs)
    return Service(name=name, needs=wanted, per="worker" if per_worker else None, **more)


def obj(kind: str, name: str, *, version: str = "v1", **more: Any) -> Obj:
    meta = {"name": name, **more.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **more}


def k8s_service(name: str, **port: Any) -> Obj:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, **port}]}
    return obj("Service", name, spec=spec)


def planned(
    *services: Service,
    namespace: str = "default",
    releases: dict[str, Release] | None = None,
    **objects: list[Obj],
) -> Plan:
    {name: tuple(found) for name, found in objects.items()}
    return resolve(
        Declaration(folder=Path(), services=services, cluster=ClusterSpec(namespace=namespace)),
        wanted={one.name: ["test_x.py::test_x"] for one in services},
        rendered=Rendered(
            {name: tuple(found) for name, found in objects.items()}, (), releases or {}
        ),
    )


def problems(*services: Service, **more: Any) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        planned(*services, **more)
    return list(caught.value.problems)


def shop() -> Plan:
    return planned(
        service("front", per_worker=False, endpoints=(HTTP,)),
        service("db", "front", endpoints=(HTTP,)),
        service("seed", "db", "front"),
        front=[k8s_service("front")],
        db=[k8s_service("db"), obj("Secret", "db")],
        seed=[obj("ConfigMap", "seed")],
    )


def needs(plan: Plan) -> dict[str, list[str]]:
    return {one.name: [need.name for need in one.needs] for one in plan.services}


def test_each_worker_gets_copies_that_need_its_own_and_shared_ones() -> None:
    assert needs(with_copies(shop(), WORKERS)) == {
        "front": [],
        "db.gw0": ["front"],
        "db.gw1": ["front"],
        "seed.gw0": ["db.gw0", "front"],
        "seed.gw1": ["db.gw1", "front"],
    }


def test_without_workers_there_is_one_copy_in_the_declared_namespace() -> None:
    plan = with_copies(shop(), ())

    assert needs(plan) == {"front": [], "db": ["front"], "seed": ["db", "front"]}
    assert plan == shop()


def test_without_a_service_per_worker_nothing_changes() -> None:
    plan = planned(service("front", per_worker=False), front=[k8s_service("front")])

    assert with_copies(plan, WORKERS, ports_for=4) is plan


def test_copies_are_in_the_workers_namespace_with_the_same_objects() -> None:
    plan = with_copies(shop(), WORKERS)

    assert plan.namespaces == {
        "db.gw0": "default-gw0",
        "db.gw1": "default-gw1",
        "seed.gw0": "default-gw0",
        "seed.gw1": "default-gw1",
    }
    assert plan.objects["db.gw1"] == shop().objects["db"]


def test_each_copy_has_ports_of_its_own_before_the_spare_ones() -> None:
    plan = with_copies(shop(), WORKERS)
    ports = {f"{one.service}.{one.endpoint}": one.node_port for one in plan.ports if one.service}

    assert list(ports) == ["front.http", "db.gw0.http", "db.gw1.http"]
    assert len({one.node_port for one in plan.ports}) == len(plan.ports)
    assert [one.service for one in plan.ports[-8:]] == [""] * 8


def test_a_cluster_that_stays_has_ports_for_other_numbers_of_workers() -> None:
    plan = with_copies(shop(), WORKERS, ports_for=3)
    alone = with_copies(shop(), (), ports_for=3)

    assert [one.service for one in plan.ports if one.service] == [
        *("front", "db", "db.gw0", "db.gw1", "db.gw2")
    ]
    assert [one.service for one in alone.ports if one.service] == [
        *("front", "db", "db.gw0", "db.gw1", "db.gw2")
    ]
    assert list(needs(alone)) == ["front", "db", "seed"]


def test_an_endpoint_leads_to_the_k8s_service_of_the_declared_name() -> None:
    plan = with_copies(shop(), WORKERS)
    (copy,) = [one for one in plan.services if one.name == "db.gw1"]

    assert [spec.service for spec in copy.endpoints] == ["db"]
    assert copy.worker == "gw1"


def test_an_endpoint_never_leads_to_another_workers_objects() -> None:
    plan = with_copies(shop(), WORKERS)
    (copy,) = [one for one in plan.services if one.name == "seed.gw1"]
    found = [
        (one["metadata"]["name"], one["metadata"].get("namespace"))
        for one in near_objects(plan, copy)
        if one["kind"] == "Service"
    ]

    assert found == [("front", "default"), ("db", None)]
    assert sum(one is other for one in near_objects(plan, copy) for other in plan.objects["db.gw1"])


def test_a_release_goes_into_the_workers_namespace_with_its_objects() -> None:
    written = obj("ConfigMap", "db", metadata={"namespace": "default"})
    release = Release(name="db", namespace="default", chart=Path("chart"), objects=(written,))
    plan = with_copies(planned(service("db"), db=[written], releases={"db": release}), WORKERS)

    assert plan.releases["db.gw1"].namespace == "default-gw1"
    assert plan.releases["db.gw1"].name == "db"
    (made,) = plan.releases["db.gw1"].objects
    assert made["metadata"] == {"name": "db", "namespace": "default-gw1"}
    assert plan.objects["db.gw1"][0] is made


def test_subjects_in_the_declared_namespace_move_with_their_copy() -> None:
    subjects = [
        {"kind": "ServiceAccount", "name": "db", "namespace": "default"},
        {"kind": "ServiceAccount", "name": "other", "namespace": "elsewhere"},
    ]
    binding = obj("RoleBinding", "db", version="rbac.authorization.k8s.io/v1", subjects=subjects)
    plan = with_copies(planned(service("db"), db=[binding]), WORKERS)

    (made,) = plan.objects["db.gw1"]
    assert [one["namespace"] for one in made["subjects"]] == ["default-gw1", "elsewhere"]


def test_labels_have_the_declared_name_and_the_worker() -> None:
    assert service_labels("db.gw1") == {
        "dev.kindinfra/service": "db",
        "dev.kindinfra/worker": "gw1",
    }
    assert service_labels("db") == {"dev.kindinfra/service": "db"}
    assert service_selector("db.gw1") == "dev.kindinfra/service=db,dev.kindinfra/worker=gw1"
    assert service_selector("db") == "dev.kindinfra/service=db,!dev.kindinfra/worker"


def test_a_shared_service_cannot_need_one_of_a_worker() -> None:
    assert problems(service("db"), service("api", "db", per_worker=False), db=[], api=[]) == [
        (
            '[services.api] needs "db", of which each worker has a copy: a shared service has no '
            'worker; to fix: give [services.api] per = "worker" too, or take it from [services.db]'
        )
    ]


def test_everything_that_cannot_be_there_twice_is_said_at_once() -> None:
    pod = {"containers": [{"name": "db", "image": "x:1", "ports": [{"hostPort": 5432}]}]}
    found = problems(
        service(
            "db",
            helm=Helm(chart=Path("chart"), namespace="charts"),
            before="nodes",
            endpoints=(
                EndpointSpec(name="sql", port=80, host_port=5432),
                EndpointSpec(name="admin", port=80, node_port=30500),
            ),
        ),
        db=[
            obj("ClusterRole", "db", version="rbac.authorization.k8s.io/v1"),
            obj("ConfigMap", "db", metadata={"namespace": "default"}),
            k8s_service("db", nodePort=30600),
            obj("Pod", "db", spec=pod),
        ],
    )
    begin = '[services.db] has per = "worker"'

    assert [one for one in found if one.startswith(begin)] == [
        (
            f'{begin} and before = "nodes", which is for a service that the cluster has once;'
            " remove one of the two keys"
        ),
        (
            f"{begin}, but helm.namespace would put all copies into one; to fix: leave out "
            "helm.namespace"
        ),
        (
            f"{begin}, but endpoints.sql has host_port = 5432, which only one copy could have; to "
            "fix: leave out host_port"
        ),
        (
            f"{begin}, but endpoints.admin has node_port = 30500, which only one copy could "
            "have; to fix: leave out node_port"
        ),
        (
            f'{begin}, but ClusterRole "db" is in no namespace, so there can be only one; '
            'to fix: give it to a shared service that "db" needs'
        ),
        (
            f'{begin}, but ConfigMap "db" names the namespace "default", so all copies would be '
            "one; to fix: leave metadata.namespace out"
        ),
        f'{begin}, but Service "db" has nodePort 30600; to fix: leave it out, an endpoint gets one',
        (
            f'{begin}, but Pod "db" has hostPort 5432, which only one pod can have; to fix: '
            "leave it out"
        ),
    ]


def test_names_that_are_too_long_for_labels_and_namespaces_are_said() -> None:
    name, namespace = "d" * 60, "n" * 60

    assert problems(service(name, "front"), service("front"), namespace=namespace, front=[]) == [
        (
            f'[cluster] namespace is "{namespace}", but workers have namespaces of their own, such '
            f'as "{namespace}-gw0", which would be longer than 63 letters; to fix: shorten it'
        ),
        f'[services.{name}] has per = "worker", so its name may have 58 letters; shorten it',
    ]

"""Whether a cluster that is there will do, and through which ports its endpoints are reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_kindinfra.clusters.fit import (
    difference,
    fingerprint_of,
    fit_ports,
    with_ports,
)
from pytest_kindinfra.model import Declaration, EndpointSpec, Plan, PortMapping, Service
from pytest_kindinfra.state.clusterrecords import Fingerprint

HOST_PORTS = {30000: 21000, 30001: 21001, 30002: 21002, 30003: 9181}
MADE = Fingerprint(
    config="c", node_image="n", tuning="t",
    ports={"api.http": 30000, "db.sql": 30001}, spare=(30002, 30003),
)  # fmt: skip


def mapping(name: str, node_port: int, **changes: Any) -> PortMapping:
    service, _, endpoint = name.partition(".")
    fields: dict[str, Any] = {"host_port": None, "in_manifest": False} | changes
    return PortMapping(service=service, endpoint=endpoint, node_port=node_port, **fields)


def plan(*ports: PortMapping, fixed: tuple[str, ...] = ()) -> Plan:
    services = [
        Service(
            name=one.service,
            endpoints=(
                EndpointSpec(
                    name=one.endpoint,
                    port=80,
                    node_port=one.node_port if f"{one.service}.{one.endpoint}" in fixed else None,
                ),
            ),
        )
        for one in ports
    ]
    declaration = Declaration(folder=Path(), services=tuple(services))
    return Plan(declaration=declaration, ports=(*ports, mapping("", 30009)))


def fitted(*ports: PortMapping, fixed: tuple[str, ...] = ()) -> dict[str, int] | str:
    fit = fit_ports(plan(*ports, fixed=fixed), MADE, HOST_PORTS)
    return fit.why_not or {f"{one.service}.{one.endpoint}": one.node_port for one in fit.ports}


class TestFitPorts:
    def test_what_had_a_port_keeps_it_whatever_the_plan_would_give_it(self) -> None:
        assert fitted(mapping("db.sql", 30000), mapping("api.http", 30001)) == {
            "db.sql": 30001,
            "api.http": 30000,
        }

    def test_what_is_new_takes_spare_ones(self) -> None:
        ports = [mapping("new.a", 30000), mapping("new.b", 30001), mapping("api.http", 30002)]
        assert fitted(*ports) == {"new.a": 30002, "new.b": 30003, "api.http": 30000}

    def test_a_port_of_what_is_gone_is_not_given_away(self) -> None:
        ports = [mapping(f"new.{name}", 30000 + at) for at, name in enumerate("abc")]
        assert fitted(*ports) == 'endpoint "new.c" is new, and no spare port of it fits'

    def test_a_new_one_with_a_fixed_host_port_needs_a_spare_one_that_leads_there(self) -> None:
        assert fitted(mapping("new.a", 30000, host_port=9181)) == {"new.a": 30003}
        assert fitted(mapping("new.a", 30000, host_port=9182)) == (
            'endpoint "new.a" is new, and no spare port of it fits'
        )

    def test_one_that_had_another_host_port_does_not_fit(self) -> None:
        assert fitted(mapping("api.http", 30000, host_port=8080)) == (
            'host_port 8080 of endpoint "api.http" is not mapped in it'
        )

    def test_a_declared_nodeport_goes_before_what_another_had(self) -> None:
        fixed = mapping("new.a", 30000)
        assert fitted(fixed, mapping("api.http", 30001), fixed=("new.a",)) == {
            "new.a": 30000,
            "api.http": 30002,
        }

    def test_a_nodeport_in_a_manifest_must_be_mapped(self) -> None:
        assert fitted(mapping("old.", 30005, in_manifest=True)) == (
            'nodePort 30005 of service "old" is not mapped in it'
        )
        assert fitted(mapping("old.", 30003, in_manifest=True)) == {"old.": 30003}

    def test_a_port_that_was_given_is_remembered(self) -> None:
        later = with_ports(MADE, [mapping("new.a", 30002)])
        assert later.ports == {"api.http": 30000, "db.sql": 30001, "new.a": 30002}
        ports = plan(mapping("newer.b", 30000), mapping("api.http", 30001))
        assert [one.node_port for one in fit_ports(ports, later, HOST_PORTS).ports] == [
            30003,
            30000,
        ]


def made(base: dict[str, Any] | None = None, **changes: Any) -> Fingerprint:
    fields: dict[str, Any] = {"node_image": "a", "provider": "kind 1", "tuning": True}
    fields["folder"] = Path("/p")
    return fingerprint_of(base, **(fields | changes))


class TestWhyUnlike:
    @pytest.mark.parametrize(
        ("now", "why"),
        [
            (made(), ""),
            (made({"nodes": [{"role": "control-plane", "image": "a"}]}), ""),
            (made(node_image="b"), "its node image was a, now it is b"),
            (made(node_image=None), "its node image was a, now it is the one of kind 1"),
            (made(tuning=False), "tuning has changed"),
            (made({"nodes": [{"role": "worker"}]}), "the kind config has changed"),
            (made({"nodes": [{"image": "b"}]}), "the kind config has changed"),
        ],
    )
    def test_it_names_what_kind_cannot_change(self, now: Fingerprint, why: str) -> None:
        assert difference(made(), now) == why

    def test_another_kind_has_another_node_image_of_its_own(self) -> None:
        before, now = made(node_image=None), made(node_image=None, provider="kind 2")
        assert (
            difference(before, now)
            == "its node image was the one of kind 1, now it is the one of kind 2"
        )

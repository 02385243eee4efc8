"""Fixed host ports that another process has."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pytest_kindinfra.model import PortMapping
from pytest_kindinfra.run.machine import busy_ports

with_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="IPv6 is off here")


def mapping(port: int) -> PortMapping:
    return PortMapping(
        service="api", endpoint="web", node_port=30000, host_port=port, in_manifest=False
    )


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=with_ipv6)])
def test_a_port_is_busy_on_the_address_on_which_a_process_listens(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]

        (sentence,) = busy_ports([mapping(port)], address=address)

    assert f"host port {port} is busy" in sentence
    assert f"held by process {os.getpid()}" in sentence or not Path("/proc").exists()


@with_ipv6
def test_a_listener_of_both_families_keeps_a_port_of_ipv4_busy() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        assert busy_ports([mapping(server.getsockname()[1])])


def test_an_address_that_cannot_be_bound_for_another_reason_is_not_busy() -> None:
    """A port below 1024 was said to be busy to whoever may not bind it; the engine may."""
    assert busy_ports([mapping(4000)], address="192.0.2.1") == ()

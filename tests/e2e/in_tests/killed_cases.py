"""Workers that are killed in the middle of a change; the outer run does not collect them.

Each test that is killed is followed by one with the same lock, which must find all as it was.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.intests.workloads import Workloads

if TYPE_CHECKING:
    from pytest_kindinfra import Apply, Http, Stack

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "left-behind"}}

pytestmark = pytest.mark.kindinfra("other", lock="other")


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_1_killed_inside_scale(kindinfra: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    scale = Workloads.scale

    def scale_and_die(self: Workloads, *arguments: object) -> None:
        scale(self, *arguments)  # type: ignore[arg-type]
        die()

    monkeypatch.setattr(Workloads, "scale", scale_and_die)
    kindinfra.scale("other", 0)


def test_2_finds_the_service_whole(kindinfra: Stack, kindinfra_http: Http) -> None:
    assert kindinfra_http("other").get("/").text == "hello\n"
    found = kindinfra.apps.read_namespaced_deployment("other", kindinfra.namespace)
    assert found.spec.replicas == 1


def test_3_killed_inside_apply(kindinfra_apply: Apply) -> None:
    kindinfra_apply(MAP)
    die()


def test_4_finds_no_object(kindinfra_apply: Apply) -> None:
    kindinfra_apply(MAP)


def test_5_killed_inside_a_lock() -> None:
    die()


def test_6_gets_the_lock() -> None:
    """The lock is free."""

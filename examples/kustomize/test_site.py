"""A kustomization with a chart next to it, on a real cluster."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import KindCluster, Stack

pytestmark = pytest.mark.kindinfra("site")


def page(stack: Stack, name: str) -> str:
    endpoint = stack.endpoint("site")
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=5)
    connection.request("GET", f"/{name}")
    return connection.getresponse().read().decode()


def test_the_overlay_has_changed_the_base(kindinfra: Stack) -> None:
    assert page(kindinfra, "greeting.txt") == "hello from the overlay"


def test_the_chart_is_there_too(kindinfra: Stack) -> None:
    assert page(kindinfra, "texts/text.txt") == "hello from the chart"


def test_both_run_the_image_of_this_run(kindinfra: Stack, kind_cluster: KindCluster) -> None:
    found = [
        json.loads(kind_cluster.kubectl("get", name, "-o", "json"))["spec"]["template"]["spec"]
        for name in ("deployment/site", "job/texts-check")
    ]

    images = [spec["containers"][0]["image"] for spec in found]
    assert images == [kindinfra.images["site"]] * 2

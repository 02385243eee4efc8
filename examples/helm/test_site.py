"""The chart under test, on a real cluster."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import KindCluster, Stack

pytestmark = pytest.mark.kindinfra("site")


def page(stack: Stack, name: str) -> str:
    endpoint = stack.endpoint("site")
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=5)
    connection.request("GET", f"/{name}")
    return connection.getresponse().read().decode()


def got(cluster: KindCluster, *words: str) -> Any:
    return json.loads(cluster.kubectl("get", *words, "-o", "json"))


def test_values_and_set_reach_the_subchart_with_their_types(kindinfra: Stack) -> None:
    assert page(kindinfra, "greeting.txt") == "hello, and welcome"
    assert page(kindinfra, "number.txt") == "007"
    assert page(kindinfra, "version.txt") == "1.10"


def test_every_pod_template_runs_the_image_of_this_run(
    kindinfra: Stack, kind_cluster: KindCluster
) -> None:
    image = kindinfra.images["site-app"]

    pod = got(kind_cluster, "deployment/site")["spec"]["template"]["spec"]
    job = got(kind_cluster, "job/site-migrate")["spec"]["template"]["spec"]
    cron = got(kind_cluster, "cronjob/site-nightly")["spec"]["jobTemplate"]["spec"]["template"]

    containers = [
        *pod["initContainers"],
        *pod["containers"],
        *job["containers"],
        *cron["spec"]["containers"],
    ]
    assert [one["image"] for one in containers] == [image] * 4
    assert [one["imagePullPolicy"] for one in containers] == ["IfNotPresent"] * 4


def test_the_hook_ran_before(kindinfra: Stack, kind_cluster: KindCluster) -> None:
    log = kind_cluster.kubectl("logs", "job/site-migrate")

    assert log == f"seeded by {kindinfra.images['site-app']}\n"


@pytest.mark.kindinfra("check")
def test_a_hook_that_names_the_image_itself_runs_this_runs_image(
    kindinfra: Stack, kind_cluster: KindCluster
) -> None:
    job = got(kind_cluster, "job/site-check")["spec"]["template"]["spec"]

    assert job["containers"][0]["image"] == kindinfra.images["site-app"]
    assert kind_cluster.kubectl("logs", "job/site-check") == "hello, and welcome"


def test_it_is_a_release(kind_cluster: KindCluster) -> None:
    kept = got(kind_cluster, "secrets", "-l", "owner=helm,name=site,status=deployed")

    assert len(kept["items"]) == 1

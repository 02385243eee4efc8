"""What tests do with services per worker; named so that the outer run does not collect it."""

from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_kindinfra import Apply, Http, Stack

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
NAME = WORKER or "main"
DECLARED = tomllib.loads(Path("kindinfra.toml").read_text())["cluster"].get("namespace", "default")
OWN = f"{DECLARED}-{WORKER}" if WORKER else DECLARED
APART = ("store", "seed", "kustomized", "charted")

JOB = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "asks"},
    "spec": {
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {"name": "asks", "image": "web", "command": ["wget", "-qO-", "http://store"]}
                ],
            }
        }
    },
}


def pods(kindinfra: Stack, service: str) -> set[str]:
    found = kindinfra.core.list_namespaced_pod(
        kindinfra.namespace, label_selector=f"dev.kindinfra/service={service}"
    )
    metas = [pod.metadata for pod in found.items if pod.metadata]
    return {str(meta.uid) for meta in metas if not meta.deletion_timestamp}


@pytest.mark.parametrize("number", range(8))
@pytest.mark.kindinfra("store")
def test_what_a_test_writes_no_other_worker_sees(
    kindinfra: Stack, kindinfra_http: Http, number: int
) -> None:
    page = f"/www/of-{NAME}"
    kindinfra.exec("store", ["sh", "-c", f"echo {number} >> {page}"], check=True)

    assert kindinfra.exec("store", ["ls", "/www"]).stdout.count("of-") == 1
    assert str(number) in kindinfra_http("store").get(f"/of-{NAME}").text


@pytest.mark.kindinfra("store")
def test_the_copy_is_in_the_workers_namespace(kindinfra: Stack) -> None:
    assert kindinfra.namespace == OWN
    assert len(pods(kindinfra, "store")) == 1
    assert kindinfra.endpoint("store").service == "store"
    assert kindinfra.url("store", "raw").startswith("tcp://127.0.0.1:")


@pytest.mark.kindinfra("front")
def test_a_shared_service_is_where_it_was_declared(kindinfra: Stack) -> None:
    assert kindinfra.namespace == DECLARED
    assert len(pods(kindinfra, "front")) == 1


@pytest.mark.kindinfra("seed", "kustomized", "charted")
@pytest.mark.parametrize("service", ["kustomized", "charted"])
def test_steps_kustomizations_and_charts_are_copied_too(
    kindinfra: Stack, kindinfra_http: Http, service: str
) -> None:
    assert kindinfra.exec("store", ["cat", "/www/seed.txt"]).stdout == "seeded\n"
    found = kindinfra.core.read_namespaced_config_map("seed", OWN)
    assert found.data == {"store": kindinfra.url("store"), "namespace": OWN}
    assert kindinfra_http(service).get("/").text == "hello\n"
    assert len(pods(kindinfra, service)) == 1


@pytest.mark.kindinfra("store")
def test_subjects_of_roles_are_the_copys(kindinfra: Stack) -> None:
    from kubernetes.client import RbacAuthorizationV1Api

    binding = RbacAuthorizationV1Api(kindinfra.kube).read_namespaced_role_binding("store", OWN)
    assert binding.subjects
    assert binding.subjects[0].namespace == OWN


@pytest.mark.kindinfra("store", "charted")
class TestChanges:
    def test_a_restart_is_one_of_the_own_copy(self, kindinfra: Stack) -> None:
        before = pods(kindinfra, "charted")
        kindinfra.restart("charted")

        assert before.isdisjoint(pods(kindinfra, "charted"))

    def test_deleted_pods_are_replaced(self, kindinfra: Stack, kindinfra_http: Http) -> None:
        before = pods(kindinfra, "charted")
        kindinfra.delete_pods("charted")

        assert before.isdisjoint(pods(kindinfra, "charted"))
        assert kindinfra_http("charted").get("/").status_code == 200

    def test_it_scales_alone(self, kindinfra: Stack) -> None:
        kindinfra.scale("charted", 2)

        assert len(pods(kindinfra, "charted")) == 2

    def test_that_is_undone(self, kindinfra: Stack) -> None:
        assert len(pods(kindinfra, "charted")) == 1

    def test_logs_are_those_of_the_own_copy(self, kindinfra: Stack, kindinfra_http: Http) -> None:
        kindinfra_http("charted").get(f"/asked-by-{NAME}")

        def seen() -> None:
            assert f"asked-by-{NAME}" in kindinfra.logs("charted")

        kindinfra.eventually(seen)
        began = time.time() - 600
        told = kindinfra.logs("charted", since=began).split("asked-by-")[1:]
        assert {text.split()[0] for text in told} == {NAME}


@pytest.mark.kindinfra("store")
def test_objects_of_a_test_are_beside_the_copy(kindinfra: Stack, kindinfra_apply: Apply) -> None:
    (made,) = kindinfra_apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"a": "b"}}
    )

    assert made["metadata"]["namespace"] == OWN
    assert kindinfra.run_job(JOB) == "hello\n"


@pytest.mark.kindinfra("kustomized", fresh=True)
def test_a_fresh_copy_is_the_own_one(kindinfra: Stack) -> None:
    kindinfra.exec("kustomized", ["touch", "/www/stale"], check=True)
    assert len(pods(kindinfra, "kustomized")) == 1


@pytest.mark.kindinfra("kustomized", fresh=True)
def test_it_has_nothing_of_the_test_before(kindinfra: Stack) -> None:
    assert "stale" not in kindinfra.exec("kustomized", ["ls", "/www"]).stdout


@pytest.mark.kindinfra("store", lock="store")
@pytest.mark.parametrize("number", range(2))
def test_locks_are_for_all_workers(kindinfra: Stack, number: int) -> None:
    assert kindinfra.exec("store", ["echo", str(number)]).stdout == f"{number}\n"

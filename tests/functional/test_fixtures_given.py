"""What the fixtures give to tests, alike in all workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

ONCE = """
import time

from pytest_kindinfra import OnceError


def produce():
    note("produced")
    time.sleep(0.2)  # long enough that the others ask meanwhile
    return {"by": os.getpid(), "pair": (1, 2)}


def refuse():
    note("refused")
    raise ValueError("no licence")


def die_first():
    if not os.path.exists("died"):
        open("died", "w").close()
        note("died")
        os._exit(7)
    note("took over")
    return 5


@pytest.mark.parametrize("number", range(8))
def test_value(kindinfra_once, number):
    value = kindinfra_once("token", produce)
    assert value["pair"] == [1, 2]
    note(f"value {value['by']}")


@pytest.mark.parametrize("number", range(8))
def test_failure(kindinfra_once, number):
    with pytest.raises(OnceError, match="ValueError: no licence"):
        kindinfra_once("licence", refuse)


@pytest.mark.parametrize("number", range(8))
def test_death(kindinfra_once, number):
    assert kindinfra_once("death", die_first) == 5
"""

GIVEN = """
import json, urllib.request

import kubernetes

from pytest_kindinfra import Endpoint, KindInfraError


@pytest.mark.kindinfra("api")
def test_urls(kindinfra):
    url = kindinfra.url("api")
    scheme, host = url.split("://")
    assert scheme == "http" and host.startswith("127.0.0.1:") and host.count("/") == 0
    assert kindinfra.url("api", "admin") != url
    endpoint = kindinfra.endpoint("api")
    assert (endpoint.service, endpoint.name, endpoint.url) == ("api", "http", url)
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200


@pytest.mark.kindinfra("api")
def test_unknown_names(kindinfra):
    with pytest.raises(KindInfraError, match='no selected test needs service "db"') as caught:
        kindinfra.url("db")
    assert '@pytest.mark.kindinfra("db")' in str(caught.value)
    with pytest.raises(KindInfraError, match='no endpoint "grpc"; declared: http, admin'):
        kindinfra.url("api", "grpc")


@pytest.mark.kindinfra("api")
def test_stack(kindinfra, kubeconfig):
    assert kindinfra.kubeconfig == kubeconfig and kubeconfig.is_file()
    assert oct(kubeconfig.stat().st_mode & 0o777) == "0o600"
    assert kindinfra.cluster == "mine"
    assert kindinfra.namespace == "shop"
    assert kindinfra.images["api"].startswith("localhost/api:")
    assert isinstance(kindinfra.kube, kubernetes.client.ApiClient)


def test_kind_cluster(kind_cluster, kubeconfig):
    assert kind_cluster.name == "mine"
    assert kind_cluster.kubeconfig_path == kubeconfig
    core = kubernetes.client.CoreV1Api(kind_cluster.api)
    assert core.read_namespace("shop").metadata.name == "shop"
    with pytest.raises(KindInfraError, match='"kubectl" is not on PATH'):
        kind_cluster.kubectl("get", "pods")


@pytest.mark.parametrize("number", range(3))
def test_load(kind_cluster, number):
    kind_cluster.load_docker_image("quay.io/extra:1")


@pytest.mark.parametrize("number", range(3))
def test_namespace(kindinfra_namespace, kindinfra, number):
    core = kubernetes.client.CoreV1Api(kindinfra.kube)
    assert core.read_namespace(kindinfra_namespace).status.phase == "Active"
    core.read_namespaced_service_account("default", kindinfra_namespace)
    note(f"namespace {kindinfra_namespace}")
"""


def once_with_workers(project: Project) -> Run:
    project.tests(ONCE)
    return project.run(workers=4)


def all_fixtures(project: Project) -> Run:
    project.declare("[cluster]\nnamespace = 'shop'\n")
    project.service("db")
    project.service("api", image=True, toml="endpoints.admin = { port = 8080 }\n")
    project.host_image("quay.io/extra:1")
    project.tests(GIVEN)
    # The client warns of its own future, which is none of the plugin's business.
    ignored = ("-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning")
    return project.run("--kindinfra-cluster-name=mine", *ignored, workers=2)


@pytest.fixture
def once(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(once_with_workers)


@pytest.fixture
def given(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(all_fixtures)


def notes(run: Run, start: str) -> list[str]:
    return [what for what, *_ in run.notes if what.startswith(start)]


def test_once_is_one_call_for_all_workers(once: Run) -> None:
    assert len(notes(once, "produced")) == 1
    assert len(set(notes(once, "value"))) == 1


def test_once_fails_alike_everywhere_after_one_call(once: Run) -> None:
    assert len(notes(once, "refused")) == 1


def test_once_is_taken_over_by_one_other_if_its_producer_is_killed(once: Run) -> None:
    assert len(notes(once, "died")) == len(notes(once, "took over")) == 1
    # The test in which the worker died is xdist's only failure.
    assert (once.code, once.outcomes) == (1, {"passed": 23, "failed": 1}), once.text


def test_once_refuses_to_wait_for_itself(project: Project) -> None:
    project.tests("""
        from pytest_kindinfra import OnceError

        def test_it(kindinfra_once):
            with pytest.raises(OnceError, match='"key": its producer requests the same key'):
                kindinfra_once("key", lambda: kindinfra_once("key", lambda: 1))
    """)

    run = project.run(workers=None)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text


def test_once_brings_nothing_up(once: Run) -> None:
    assert once.all_calls == []


def test_all_fixtures_give_what_they_promise(given: Run) -> None:
    assert (given.code, given.outcomes) == (0, {"passed": 10}), given.text


def test_namespaces_are_unique_and_deleted(given: Run) -> None:
    names = [what.split()[1] for what in notes(given, "namespace")]

    assert len(set(names)) == 3
    assert all(re.fullmatch(r"test-namespace-\d-[0-9a-f]{8}", name) for name in names)
    for name in names:
        assert given.requests.count(("DELETE", f"/api/v1/namespaces/{name}")) == 1


def test_an_image_is_loaded_once_for_all_workers(given: Run) -> None:
    saved = [call for call in given.calls("save") if "quay.io/extra:1" in call.argv]

    assert len(saved) == 1


def test_a_namespace_is_made_without_workers_too(project: Project) -> None:
    project.tests("""
        def test_it(kindinfra_namespace, kind_cluster):
            note(f"namespace {kindinfra_namespace}")
            assert kind_cluster.api is kind_cluster.api
    """)

    run = project.run(workers=None)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    (name,) = (what.split()[1] for what in notes(run, "namespace"))
    assert ("DELETE", f"/api/v1/namespaces/{name}") in run.requests

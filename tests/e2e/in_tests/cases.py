"""What tests do with the stack; named so that the outer run does not collect it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra import ExecError, KindInfraError

if TYPE_CHECKING:
    from collections.abc import Callable

    import docker

    from pytest_kindinfra import Apply, Http, Stack

    Running = Callable[[], list[str]]


def pods(kindinfra: Stack, service: str) -> set[str]:
    found = kindinfra.core.list_namespaced_pod(
        kindinfra.namespace, label_selector=f"dev.kindinfra/service={service}"
    )
    metas = [pod.metadata for pod in found.items if pod.metadata]
    return {str(meta.uid) for meta in metas if not meta.deletion_timestamp}


def replicas(kindinfra: Stack, service: str) -> int | None:
    found = kindinfra.apps.read_namespaced_deployment(service, kindinfra.namespace)
    return found.spec.replicas


@pytest.mark.kindinfra("web")
class TestCommands:
    def test_a_command_has_both_streams_and_an_exit_code(self, kindinfra: Stack) -> None:
        done = kindinfra.exec("web", ["sh", "-c", "echo out; echo err >&2; exit 3"])

        assert (done.exit_code, done.stdout, done.stderr) == (3, "out\n", "err\n")

    def test_a_command_reads_what_it_is_given(self, kindinfra: Stack) -> None:
        text = "x" * 300_000

        assert kindinfra.exec("web", ["cat"], input=text).stdout == text
        assert kindinfra.exec("web", ["wc", "-c"], input=b"12345").stdout == "5\n"
        assert kindinfra.exec("web", ["cat"]).stdout == ""

    def test_a_failure_shows_command_pod_and_streams(self, kindinfra: Stack) -> None:
        with pytest.raises(ExecError) as caught:
            kindinfra.exec("web", ["sh", "-c", "echo broken >&2; exit 2"], check=True)

        assert caught.value.exit_code == 2
        assert "$ sh -c 'echo broken >&2; exit 2'" in str(caught.value)
        assert "broken" in caught.value.stderr
        assert 'pod "web-' in str(caught.value)

    def test_a_command_that_is_not_there_is_an_error(self, kindinfra: Stack) -> None:
        with pytest.raises(ExecError, match="no-such-program"):
            kindinfra.exec("web", ["no-such-program"])

    def test_a_command_that_does_not_end_is_an_error(self, kindinfra: Stack) -> None:
        with pytest.raises(ExecError, match="did not end within 1 s"):
            kindinfra.exec("web", ["sleep", "60"], timeout=1)

    def test_an_unknown_container_is_an_error(self, kindinfra: Stack) -> None:
        with pytest.raises(KindInfraError, match="sidecar"):
            kindinfra.exec("web", ["true"], container="sidecar")

    def test_logs_are_those_since_the_test_began(
        self, kindinfra: Stack, kindinfra_http: Http
    ) -> None:
        began = time.time()
        kindinfra_http("web").get("/only-here")

        def seen() -> None:
            assert "only-here" in kindinfra.logs("web")

        kindinfra.eventually(seen)
        assert "only-here" not in kindinfra.logs("web", since=time.time() + 5)
        assert "only-here" in kindinfra.logs("web", since=began - 5)

    def test_http_has_the_endpoint_as_its_base(self, kindinfra_http: Http) -> None:
        assert kindinfra_http("web").get("/").text == "hello\n"
        assert kindinfra_http("web") is kindinfra_http("web", "http")


def test_eventually_shows_the_last_failure(kindinfra: Stack) -> None:
    counted = []

    def three() -> int:
        counted.append(1)
        assert len(counted) == 3
        return len(counted)

    assert kindinfra.eventually(three) == 3


@pytest.mark.kindinfra("other", lock="other")
class TestChanges:
    def test_a_restart_replaces_the_pods(self, kindinfra: Stack, kindinfra_http: Http) -> None:
        before = pods(kindinfra, "other")
        kindinfra.restart("other")

        assert kindinfra_http("other").get("/").status_code == 200
        assert before.isdisjoint(pods(kindinfra, "other"))

    def test_deleted_pods_are_replaced(self, kindinfra: Stack, kindinfra_http: Http) -> None:
        before = pods(kindinfra, "other")
        kindinfra.delete_pods("other")

        assert kindinfra_http("other").get("/").status_code == 200
        assert before.isdisjoint(pods(kindinfra, "other"))

    def test_it_scales_up(self, kindinfra: Stack) -> None:
        kindinfra.scale("other", 3)

        assert len(pods(kindinfra, "other")) == 3

    def test_that_is_undone_afterwards(self, kindinfra: Stack) -> None:
        assert replicas(kindinfra, "other") == 1

    def test_it_scales_to_nothing(self, kindinfra: Stack, kindinfra_http: Http) -> None:
        import httpx

        kindinfra.scale("other", 0)

        with pytest.raises(httpx.HTTPError):
            kindinfra_http("other").get("/")

    def test_it_is_there_again(self, kindinfra_http: Http) -> None:
        assert kindinfra_http("other").get("/").text == "hello\n"


class TestTurns:
    @pytest.mark.kindinfra("web", exclusive=True)
    def test_an_exclusive_test_runs_alone(self, running: Running) -> None:
        assert running() == ["test_an_exclusive_test_runs_alone"]

    @pytest.mark.parametrize("number", range(2))
    @pytest.mark.kindinfra("web", weight=3)
    def test_weights_fill_the_capacity(self, running: Running, number: int) -> None:
        assert len(running()) <= 2
        assert f"test_weights_fill_the_capacity[{1 - number}]" not in running()

    @pytest.mark.parametrize("number", range(2))
    @pytest.mark.kindinfra("other", fresh=True)
    def test_a_fresh_service_has_nothing_of_earlier_tests(
        self, kindinfra: Stack, running: Running, number: int
    ) -> None:
        assert running() == [f"test_a_fresh_service_has_nothing_of_earlier_tests[{number}]"]
        assert "stale" not in kindinfra.exec("other", ["ls", "/www"], check=True).stdout
        kindinfra.exec("other", ["touch", "/www/stale"], check=True)


@pytest.mark.kindinfra("web")
class TestOwnObjects:
    def test_objects_run_the_images_of_the_run(
        self, kindinfra: Stack, kindinfra_apply: Apply, kindinfra_namespace: str
    ) -> None:
        (pod,) = kindinfra_apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "own"},
                "spec": {"containers": [{"name": "own", "image": "web"}]},
            },
            kindinfra_namespace,
        )

        assert pod["spec"]["containers"][0]["image"] == kindinfra.images["web"]
        found = kindinfra.core.read_namespaced_pod("own", kindinfra_namespace)
        assert found.status
        assert found.status.phase == "Running"

    def test_an_object_of_a_service_is_not_touched(self, kindinfra_apply: Apply) -> None:
        with pytest.raises(KindInfraError, match="exists already"):
            kindinfra_apply("web.yaml")

    def test_a_job_gives_its_log(self, kindinfra: Stack, kindinfra_worker_namespace: str) -> None:
        log = kindinfra.run_job("job.yaml", namespace=kindinfra_worker_namespace)

        assert log == "line 1\nline 2\nline 3\n"

    def test_a_failing_job_says_why(self, kindinfra: Stack, kindinfra_namespace: str) -> None:
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "failing"},
            "spec": {
                "backoffLimit": 0,
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [
                            {
                                "name": "failing",
                                "image": "web",
                                "command": ["sh", "-c", "echo no licence; exit 4"],
                            }
                        ],
                    }
                },
            },
        }
        with pytest.raises(KindInfraError, match="no licence"):
            kindinfra.run_job(job, namespace=kindinfra_namespace)


def test_docker_reaches_the_kind_nodes(
    kindinfra: Stack, kindinfra_docker: docker.DockerClient
) -> None:
    node = kindinfra_docker.containers.get(f"{kindinfra.cluster}-control-plane")

    assert node.status == "running"


def test_other_apis_are_typed(kindinfra: Stack) -> None:
    assert kindinfra.batch.list_namespaced_job("default").items is not None
    found = kindinfra.custom.list_cluster_custom_object(
        "apiextensions.k8s.io", "v1", "customresourcedefinitions"
    )
    assert isinstance(found, dict)
    assert "items" in found

"""Endpoints that are reached in another way than through a port of this host."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.fake_kubernetes import FakeKubernetes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.project import Project, Run

OPTION = "--kindinfra-kubeconfig=kube.yaml"
HOST = "shop.example.com"
WORKLOAD = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: store}
    spec:
      selector: {matchLabels: {app: store}}
      template:
        metadata: {labels: {app: store}}
        spec:
          containers: [{name: main, image: "quay.io/store:1"}]
    ---
"""
K8S_SERVICE = """
    apiVersion: v1
    kind: Service
    metadata: {name: store}
    spec:
      type: %s
      selector: {app: store}
      ports: [{port: %d, targetPort: 8080}]
"""
INGRESS = """
    ---
    apiVersion: networking.k8s.io/v1
    kind: Ingress
    metadata: {name: entry}
    spec:
      rules:
        - host: shop.example.com
          http:
            paths:
              - path: /
                pathType: Prefix
                backend: {service: {name: store, port: {number: %d}}}
"""
TESTS = """
    import urllib.request

    @pytest.mark.parametrize("number", range(4))
    @pytest.mark.kindinfra("store")
    def test_store(kindinfra, number):
        endpoint = kindinfra.endpoint("store")
        asked = urllib.request.Request(endpoint.url)
        if endpoint.virtual_host:
            asked.add_header("Host", endpoint.virtual_host)
        assert urllib.request.urlopen(asked).read() == b"here"
        note(f"at {endpoint.host} {endpoint.port} {endpoint.virtual_host}")
"""


class Web(BaseHTTPRequestHandler):
    """Plays pods and an Ingress controller, which knows no other host."""

    def do_GET(self) -> None:
        asked = self.headers["Host"]
        known = asked == HOST or asked.startswith("127.0.0.1:")
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.01,))
        thread.start()
        yield web.server_port
        web.shutdown()
        thread.join()


@pytest.fixture
def kubernetes(project: Project) -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as fake:
        fake.write_kubeconfig(project.folder / "kube.yaml")
        for program in ("docker", "kind"):
            project.remove(program)
        yield fake


def declare(project: Project, keys: str, *, kind: str = "ClusterIP", port: int = 80) -> None:
    project.write("store.yaml", WORKLOAD + K8S_SERVICE % (kind, port) + INGRESS % port)
    project.declare(
        f"""
        [services.store]
        manifests = ["store.yaml"]
        timeout = 60
        endpoints.http = {{ port = {port}, path = "/", {keys} }}
        """
    )
    project.tests(TESTS)


def addresses(run: Run) -> set[str]:
    """Return the addresses that the tests of a run were given."""
    return {text.removeprefix("at ") for text, _, _ in run.notes if text.startswith("at ")}


@pytest.mark.parametrize("workers", [None, 2])
def test_a_node_port_is_added_in_a_cluster_of_others_and_deleted_with_the_rest(
    project: Project, kubernetes: FakeKubernetes, port: int, workers: int | None
) -> None:
    before = set(kubernetes.objects)
    kubernetes.node_port = port
    declare(project, 'expose = "node-port"')

    run = project.run(OPTION, workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 4}), run.text
    assert addresses(run) == {f"127.0.0.1 {port} "}
    added = "/api/v1/namespaces/default/services/store-http-kindinfra"
    assert ("PATCH", added) in kubernetes.requests
    assert set(kubernetes.objects) == before
    assert not [path for _, path in kubernetes.requests if path.endswith("/portforward")]


def test_a_load_balancer_and_an_ingress_are_asked_where_they_are(
    project: Project, kubernetes: FakeKubernetes, port: int
) -> None:
    kubernetes.balancer = "127.0.0.1"
    declare(project, 'expose = "load-balancer"', kind="LoadBalancer", port=port)
    project.declare(
        f'endpoints.entry = {{ port = {port}, path = "/", expose = "ingress", '
        f'address = "127.0.0.1:{port}" }}'
    )
    project.tests(TESTS.replace('endpoint("store")', 'endpoint("store", "entry")'), "test_b.py")

    run = project.run(OPTION)

    assert (run.code, run.outcomes) == (0, {"passed": 8}), run.text
    assert addresses(run) == {f"127.0.0.1 {port} ", f"127.0.0.1 {port} {HOST}"}


def test_a_load_balancer_that_no_controller_makes_fails_the_service_with_the_reason(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    assert kubernetes.balancer == ""
    declare(project, 'expose = "load-balancer"', kind="LoadBalancer")
    file = project.folder / "kindinfra.toml"
    file.write_text(file.read_text().replace("timeout = 60", "timeout = 1"))

    run = project.run(OPTION)

    assert (run.code, run.outcomes) == (1, {"errors": 4}), run.text
    assert run.report["outcome"]["failures"]["store"] == (
        'service "store" failed to start: endpoint "http" of "store" got no address within 1 s '
        '(timeout of [services.store]): k8s service "store" is pending: no controller has reacted '
        "to it (it has no events)\nTo fix: install a controller for k8s services of type "
        "LoadBalancer in the cluster (for kind: cloud-provider-kind), or set expose = "
        '"port-forward"'
    )


def test_what_cannot_work_is_a_usage_error(project: Project, kubernetes: FakeKubernetes) -> None:
    declare(project, 'expose = "in-cluster"')
    project.declare('endpoints.a = { port = 80, expose = "load-balancer" }')
    project.declare('endpoints.b = { port = 80, expose = "loadbalancer" }')

    run = project.run(OPTION)

    assert run.code == 4, run.text
    assert 'expose is "loadbalancer", but must be one of' in run.text
    assert 'did you mean "load-balancer"?' in run.text

    file = project.folder / "kindinfra.toml"
    file.write_text(file.read_text().replace("loadbalancer", "in-cluster"))
    run = project.run(OPTION)

    assert run.code == 4, run.text
    assert "[services.store.endpoints.a] has expose" in run.text
    assert kubernetes.requests == []

    file.write_text(file.read_text().replace("load-balancer", "in-cluster"))
    run = project.run(OPTION)

    assert run.code == 4, run.text
    assert run.text.count("this process does not run in a pod of the cluster") == 3
    assert [path for method, path in kubernetes.requests if method != "GET"] == []


def test_rights_to_add_a_k8s_service_are_asked_for_and_those_to_forward_are_not(
    project: Project, kubernetes: FakeKubernetes
) -> None:
    project.write("store.yaml", WORKLOAD)
    project.declare(
        """
        [services.store]
        manifests = ["store.yaml"]
        endpoints.http = { port = 8080, workload = "deployment/store", expose = "node-port" }
        """
    )
    project.tests(TESTS)
    kubernetes.allows = lambda asked: (
        asked["resource"] != "services" and asked["verb"] != "*" and not asked.get("subresource")
    )

    run = project.run(OPTION)

    assert run.code == 4, run.text
    (line,) = [one.strip() for one in run.text.splitlines() if " in namespace " in one]
    assert line == 'create, delete, get, list, patch services in namespace "default"'


def test_a_forward_and_a_node_port_lead_into_a_cluster_of_the_run(
    project: Project, port: int
) -> None:
    project.clusters.pods["", 8080] = port
    project.service("store")
    project.declare('endpoints.other = { port = 8080, path = "/", expose = "port-forward" }')
    project.tests(
        """
        import urllib.request

        @pytest.mark.kindinfra("store")
        def test_store(kindinfra):
            first, second = kindinfra.url("store"), kindinfra.url("store", "other")
            assert first != second
            assert urllib.request.urlopen(first).read() == b"store-http-kindinfra"
            assert urllib.request.urlopen(second).read() == b"here"
    """
    )

    run = project.run()

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text


def test_commands_give_an_address_that_stays_and_ask_it_as_the_run_did(
    project: Project, kubernetes: FakeKubernetes, port: int
) -> None:
    """`status` said 404 of an Ingress, and `url` wanted to forward a port to it."""
    assert kubernetes.url
    declare(project, f'expose = "ingress", address = "127.0.0.1:{port}"')
    here = "--kubeconfig=kube.yaml"

    up = project.command("up", here)
    url = project.command("url", "store", here)
    status = project.command("status", "--json", here)

    assert up.returncode == 0, up.stdout + up.stderr
    assert f"http://127.0.0.1:{port}" in up.stdout
    assert "url --forward" not in up.stdout
    assert (url.returncode, url.stdout) == (0, f"http://127.0.0.1:{port}\n"), url.stderr
    service = json.loads(status.stdout)["services"]["store"]
    assert service["endpoints"] == {"http": f"http://127.0.0.1:{port}"}, service
    assert status.returncode == 0, status.stdout

"""An endpoint is proved by an answer: the engine's proxy accepts connections for nobody."""

from __future__ import annotations

import socket
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import NotReadyError
from pytest_kindinfra.model import EndpointSpec
from pytest_kindinfra.system.answers import prove_endpoint
from pytest_kindinfra.system.timeline import Deadline, monotonic
from tests.e2e.kube.objects import config_map, container, deployment, k8s_service

pytestmark = pytest.mark.alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra.kube.cluster import Kube
    from pytest_kindinfra.model import Endpoint, KubeObject, Scheme

LATE = 4
"""Seconds until PostgreSQL begins to start."""
SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""What a PostgreSQL client says first; the server answers with one letter."""
COREFILE = "grpc://.:1053 {\n  errors\n}\n"
TRUSTED = [{"name": "POSTGRES_HOST_AUTH_METHOD", "value": "trust"}]


@pytest.fixture(scope="module")
def namespace(real_kube: Kube) -> Iterator[str]:
    name = f"endpoints-{uuid.uuid4().hex[:6]}"
    real_kube.ensure_namespace(name, Deadline.after(30), {"kindinfra/tests": "kube"})
    yield name
    real_kube.delete_namespace(name)


@pytest.fixture(scope="module")
def prove(node_name: str, host_ports: dict[int, int]) -> Callable[..., Endpoint]:
    """Proves an endpoint of a NodePort, through the kind node's address and the host port."""
    query = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    argv = ["docker", "inspect", "--format", query, node_name]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30)
    address = done.stdout.strip()

    def prove(node_port: int, scheme: Scheme, *, seconds: float = 60.0, **how: Any) -> Endpoint:
        return prove_endpoint(
            "it", EndpointSpec(name="it", port=1, scheme=scheme),
            host_port=host_ports[node_port], node=(address, node_port),
            deadline=Deadline.after(seconds), **how,
        )  # fmt: skip

    return prove


def node_port(name: str, number: int, port: int) -> KubeObject:
    ports = [{"port": port, "nodePort": number}]
    return k8s_service(name, type="NodePort", ports=ports)


def apply(kube: Kube, namespace: str, *objects: KubeObject) -> None:
    for obj in objects:
        kube.apply(obj, namespace=namespace, deadline=Deadline.after(30))


def wait(kube: Kube, namespace: str, workload: KubeObject) -> None:
    kube.wait_ready([workload], namespace=namespace, deadline=Deadline.after(60), restarts=0)


def first_byte(port: int, sends: bytes) -> bytes | None:
    """Return the first byte of an answer; nothing if the connection is closed, None if refused."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(sends)
            return connection.recv(1)
    except ConnectionResetError:
        return b""
    except OSError:
        return None


@pytest.mark.parametrize("scheme", ["tcp", "http", "grpc"])
def test_a_k8s_service_without_pods_is_no_endpoint(
    real_kube: Kube, namespace: str, prove: Callable[..., Endpoint], scheme: str
) -> None:
    apply(real_kube, namespace, node_port("nobody", 30000, 80))

    with pytest.raises(NotReadyError, match="did not answer"):
        prove(30000, scheme, seconds=3)


def test_a_postgresql_that_starts_slowly_is_an_endpoint_when_it_answers(
    real_kube: Kube,
    namespace: str,
    node_name: str,
    host_ports: dict[int, int],
    prove: Callable[..., Endpoint],
) -> None:
    load("postgres:15", node_name)
    late = container(
        "postgres:15", f"sleep {LATE}; exec docker-entrypoint.sh postgres", env=TRUSTED
    )
    apply(
        real_kube,
        namespace,
        node_port("postgres", 30001, 5432),
        deployment("postgres", containers=[late]),
    )
    accepted: list[bytes | None] = []
    start = monotonic()

    endpoint = prove(
        30001, "tcp", meanwhile=lambda: accepted.append(first_byte(host_ports[30001], SSL_REQUEST))
    )

    told = first_byte(endpoint.port, SSL_REQUEST)
    print(f"{monotonic() - start:.1f} s, before that {accepted}")  # noqa: T201
    assert told in {b"N", b"S"}
    assert accepted, "it was an endpoint before PostgreSQL began to start"
    assert set(accepted) <= {b"", None, told}


def load(image: str, node: str) -> None:
    """Put an image of the engine into a kind node."""
    into = ["docker", "exec", "-i", node, "ctr", "--namespace=k8s.io", "images", "import", "-"]
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
        subprocess.run(into, stdin=saved.stdout, check=True, capture_output=True, timeout=120)


def test_a_grpc_server_is_asked_for_its_health(
    real_kube: Kube,
    namespace: str,
    prove: Callable[..., Endpoint],
    image_like: Callable[[str], str],
) -> None:
    urls = [f"--{who}-client-urls=http://0.0.0.0:2379" for who in ("listen", "advertise")]
    etcd = {
        "name": "etcd",
        "image": image_like("/etcd:"),
        "command": ["etcd", "--data-dir=/tmp/etcd", *urls],
    }
    apply(
        real_kube,
        namespace,
        node_port("etcd", 30002, 2379),
        deployment("etcd", containers=[etcd]),
    )

    wait(real_kube, namespace, deployment("etcd", containers=[etcd]))
    assert prove(30002, "grpc").scheme == "grpc"


def test_a_grpc_server_without_a_health_service_is_an_endpoint_when_it_says_so(
    real_kube: Kube,
    namespace: str,
    prove: Callable[..., Endpoint],
    image_like: Callable[[str], str],
) -> None:
    dns = {
        "name": "coredns",
        "image": image_like("/coredns:"),
        "args": ["-conf", "/config/Corefile"],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    }
    volume = {"name": "config", "configMap": {"name": "corefile"}}
    apply(
        real_kube,
        namespace,
        config_map("corefile", Corefile=COREFILE),
        node_port("dns", 30003, 1053),
        deployment("dns", containers=[dns], volumes=[volume]),
    )

    wait(real_kube, namespace, deployment("dns", containers=[dns], volumes=[volume]))
    assert prove(30003, "grpc").scheme == "grpc"

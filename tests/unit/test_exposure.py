"""How tests reach endpoints: what is declared, what suits a cluster, and which address it is."""

from __future__ import annotations

import base64
import socket
import threading
import tomllib
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.clusters.existing import is_inside
from pytest_kindinfra.context import ExistingCluster, Request, Reuse
from pytest_kindinfra.deploy.exposure import Exposure, problems_of_exposure
from pytest_kindinfra.errors import DeclarationError, KindInfraError, NotReadyError
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.kube.objects import Rendered
from pytest_kindinfra.model import Declaration, Endpoint, EndpointSpec, Plan, Service
from pytest_kindinfra.plan.declaration import parse_declaration
from pytest_kindinfra.plan.exposure import exposed_by, split_address
from pytest_kindinfra.plan.resolve import resolve
from pytest_kindinfra.session.clients import Http
from pytest_kindinfra.system.timeline import Deadline
from tests.fake_kubernetes import FakeKubernetes
from tests.fakes import DeadlineWhen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra.model import Expose

Obj = dict[str, Any]

WEB = EndpointSpec(name="http", port=80, path="/health")
LABELS = {"app": "web"}


# -- what is declared ------------------------------------------------------------------------------


def parsed(keys: str) -> EndpointSpec:
    toml = f"[services.web]\nmanifests = ['w.yaml']\nendpoints.http = {{ port = 80, {keys} }}"
    declaration = parse_declaration(tomllib.loads(toml), folder=Path(), source="kindinfra.toml")
    return declaration.services[0].endpoints[0]


def test_it_is_read_with_the_address_of_an_ingress() -> None:
    found = parsed('path = "/", expose = "ingress", address = "10.0.0.7:8443"')

    assert (found.expose, found.address) == ("ingress", "10.0.0.7:8443")
    assert parsed('path = "/"').expose is None


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            'expose = "nodeport"',
            (
                'expose is "nodeport", but must be one of "port-forward", "node-port", '
                '"load-balancer", "ingress", "in-cluster"; did you mean "node-port"?'
            ),
        ),
        (
            'expose = "load-balancer", host_port = 8080',
            (
                'has host_port and expose = "load-balancer", which uses no port of this host: '
                "remove one of them"
            ),
        ),
        (
            'expose = "port-forward", node_port = 30080',
            'has node_port and expose = "port-forward", which uses no NodePort: remove one of them',
        ),
        (
            'expose = "in-cluster", workload = "pod/web"',
            'has workload and expose = "in-cluster", which leads to a k8s service: use service',
        ),
        ('address = "x"', 'has address, which means nothing without expose = "ingress"'),
        (
            'expose = "ingress", scheme = "tcp"',
            'has expose = "ingress", which means nothing for scheme "tcp"',
        ),
        (
            'expose = "ingress"',
            (
                'has expose = "ingress", so it needs a path: an answer without one may be the '
                "Ingress controller's own"
            ),
        ),
        (
            'expose = "ingress", path = "/", address = "http://x"',
            'address is "http://x", but must be HOST or HOST:PORT',
        ),
    ],
)
def test_keys_that_make_no_sense_together_are_problems(keys: str, problem: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        parsed(keys)

    assert list(caught.value.problems) == [f"[services.web.endpoints.http] {problem}"]


@pytest.mark.parametrize(
    ("text", "scheme", "address"),
    [
        ("shop.example.com", "http", ("shop.example.com", 80)),
        ("shop.example.com", "https", ("shop.example.com", 443)),
        ("10.0.0.7:8080", "https", ("10.0.0.7", 8080)),
        ("[fd00::7]:8080", "http", ("fd00::7", 8080)),
        ("[fd00::7]", "http", ("fd00::7", 80)),
    ],
)
def test_an_address_has_the_port_of_its_scheme_unless_it_says(
    text: str, scheme: str, address: tuple[str, int]
) -> None:
    assert split_address(text, scheme) == address


@pytest.mark.parametrize("text", ["", ":80", "a:0", "a:70000", "a:b", "fd00::7", "a/b", "a b"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        split_address(text, "http")


# -- what suits a cluster --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "where", "way"),
    [
        ({}, "own", "node-port"),
        ({}, "existing", "port-forward"),
        ({}, "inside", "in-cluster"),
        ({"workload": "deployment/web"}, "inside", "port-forward"),
        ({"host_port": 8080}, "inside", "port-forward"),
        ({"expose": "node-port"}, "inside", "node-port"),
        ({"expose": "load-balancer"}, "own", "load-balancer"),
    ],
)
def test_what_is_declared_counts_and_else_the_cluster(
    changes: dict[str, Any], where: str, way: Expose
) -> None:
    spec = replace(WEB, **changes)

    assert exposed_by(spec, existing=where != "own", inside=where == "inside") == way


OURS, OTHERS = b"-----BEGIN CERTIFICATE-----\nours\n", b"-----BEGIN CERTIFICATE-----\nothers\n"


@pytest.mark.parametrize(
    ("cluster", "inside"),
    [
        ({"certificate-authority-data": base64.b64encode(OURS).decode()}, True),
        ({"certificate-authority-data": base64.b64encode(OTHERS).decode()}, False),
        ({"certificate-authority": "ours.crt"}, True),
        ({"certificate-authority": "missing.crt"}, False),
        ({"certificate-authority-data": "!"}, False),
        ({"server": "https://kubernetes.default.svc"}, True),
        ({"server": "https://10.96.0.1:443"}, True),
        ({"server": "https://elsewhere.example.com"}, False),
    ],
)
def test_a_pod_knows_its_cluster_by_the_certificate_that_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: dict[str, str], *, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    (tmp_path / "ours.crt").write_bytes(OURS)
    (tmp_path / "ca.crt").write_bytes(OURS)

    assert is_inside(cluster, tmp_path) is inside
    assert is_inside(cluster, tmp_path / "no-pod") is False


def request(*, inside: bool | None, reuse: bool = False) -> Request:
    there = ExistingCluster(kubeconfig=Path("k"), name="dev", inside=bool(inside))
    return Request(
        cluster="dev",
        run_id="r",
        namespace="default",
        build_jobs=1,
        timeout=1.0,
        kind_config=None,
        node_image=None,
        tuning=True,
        folder=Path(),
        existing=None if inside is None else there,
        reuse=Reuse(reused_dir=Path("reused")) if reuse else None,
    )


def plan_of(spec: EndpointSpec, **more: Any) -> Plan:
    service = Service(name="web", manifests=("w.yaml",), endpoints=(spec,), **more)
    return Plan(declaration=Declaration(folder=Path(), services=(service,)), services=(service,))


@pytest.mark.parametrize("inside", [False, None], ids=["elsewhere", "a cluster of the run"])
def test_an_address_in_the_cluster_is_of_no_use_outside_of_it(*, inside: bool | None) -> None:
    plan = plan_of(replace(WEB, expose="in-cluster"))

    assert list(problems_of_exposure(plan, request(inside=inside))) == [
        (
            '[services.web.endpoints.http] has expose = "in-cluster", but this process does not '
            "run in a pod of the cluster\n  To fix: run it in a pod there, or remove expose"
        )
    ]
    assert list(problems_of_exposure(plan, request(inside=True))) == []


def test_a_forward_is_refused_where_services_outlive_the_process() -> None:
    plan = plan_of(replace(WEB, expose="port-forward"))

    assert list(problems_of_exposure(plan, request(inside=None, reuse=True))) == [
        (
            '[services.web.endpoints.http] has expose = "port-forward", which ends with this '
            "process, but the cluster and its services stay\n  To fix: remove expose, or run "
            "without reuse"
        )
    ]
    assert list(problems_of_exposure(plan, request(inside=None))) == []


# -- what the manifests need -----------------------------------------------------------------------


def k8s_service(kind: str = "ClusterIP", **spec: Any) -> Obj:
    port = {"name": "web", "port": 80, "targetPort": 8080}
    spec = {"type": kind, "selector": LABELS, "ports": [port], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}


def ingress(host: str = "", *, to: str = "web", port: Obj | None = None) -> Obj:
    backend = {"service": {"name": to, "port": port or {"number": 80}}}
    rule = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "entry"},
        "spec": {"rules": [rule | ({"host": host} if host else {})]},
    }


def resolved(spec: EndpointSpec, *objects: Obj, **more: Any) -> list[str]:
    declaration = plan_of(spec, **more).declaration
    try:
        resolve(
            declaration, wanted={"web": ["test_x"]}, rendered=Rendered({"web": objects}, (), {})
        )
    except DeclarationError as error:
        return list(error.problems)
    return []


INGRESS = replace(WEB, expose="ingress")
BALANCED = replace(WEB, expose="load-balancer")


def test_a_load_balancer_takes_a_k8s_service_of_that_type() -> None:
    assert resolved(BALANCED, k8s_service("LoadBalancer")) == []
    assert resolved(BALANCED, k8s_service()) == [
        (
            '[services.web.endpoints.http] has expose = "load-balancer", but k8s service "web" has '
            "type ClusterIP: set type: LoadBalancer there"
        )
    ]


@pytest.mark.parametrize(
    "found",
    [
        ingress("shop.example.com"),
        ingress(port={"name": "web"}),
        {**ingress(), "spec": {"defaultBackend": {"service": {"name": "web",
                                                              "port": {"number": 80}}}}},
    ],
    ids=["by number", "by name", "by default"],
)  # fmt: skip
def test_an_ingress_that_leads_to_the_port_is_found(found: Obj) -> None:
    assert resolved(INGRESS, k8s_service(), found) == []
    assert resolved(replace(INGRESS, port="web"), k8s_service(), found) == []


def test_an_endpoint_without_an_ingress_names_those_there_are() -> None:
    other = ingress("shop.example.com", to="wbe")

    assert resolved(INGRESS, k8s_service(), other) == [
        (
            '[services.web.endpoints.http] has expose = "ingress", but no Ingress leads to k8s '
            'service "web" port 80; there are: Ingress "entry" to "wbe" port 80'
        )
    ]
    assert resolved(INGRESS, k8s_service(), run="seed:web") == []  # a step may make one


def test_only_endpoints_that_go_through_a_node_port_are_mapped() -> None:
    for way, mapped in (("ingress", False), ("node-port", True)):
        declaration = plan_of(replace(INGRESS, expose=way)).declaration  # type: ignore[arg-type]
        objects: dict[str, tuple[Obj, ...]] = {"web": (k8s_service(), ingress())}
        plan = resolve(declaration, wanted={"web": ["test_x"]}, rendered=Rendered(objects, (), {}))
        assert [one.endpoint for one in plan.ports if one.endpoint] == ["http"] * mapped


# -- which address it is ---------------------------------------------------------------------------


class Answers(BaseHTTPRequestHandler):
    """Answers for one host alone, as an Ingress controller does."""

    def do_GET(self) -> None:
        wanted = getattr(self.server, "wanted", "")
        self.send_response(200 if wanted in {"", self.headers["Host"]} else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the names that this machine knows, and their addresses: no test asks for others."""
    known: dict[str, str] = {}
    really = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> Any:
        if host not in known and not host.startswith("127."):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return really(known.get(host, host), *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return known


@pytest.fixture
def fake() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        yield server


class Cluster:
    """A cluster with one service, whose endpoints can be asked for."""

    def __init__(self, fake: FakeKubernetes, kube: Kube) -> None:
        self.fake = fake
        self.kube = kube
        self.objects: list[Obj] = []
        self.looks = 0

    def put(self, *objects: Obj) -> None:
        self.objects += [self.fake.put(obj) for obj in objects]

    def pod(self, host: str, node: str = "", port: int = 8080) -> None:
        self.fake.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "web-1", "labels": LABELS},
                "spec": {"nodeName": node, "containers": [{"name": "main", "ports": [
                    {"name": "listen", "containerPort": port}]}]},
                "status": {"hostIP": host, "conditions": [{"type": "Ready", "status": "True"}]},
            }
        )  # fmt: skip

    def exposure(self, spec: EndpointSpec, deadline: Deadline | None = None) -> Exposure:
        service = Service(name="web", endpoints=(spec,))
        return Exposure(
            service=service,
            plan=Plan(declaration=Declaration(folder=Path()), objects={"web": ()}),
            applied=self.objects,
            namespace="default",
            kube=self.kube,
            meanwhile=self.look,
            deadline=deadline or Deadline.after(60),
        )

    def look(self) -> None:
        self.looks += 1

    def address(self, spec: EndpointSpec) -> tuple[str, int, str]:
        assert spec.expose
        found = self.exposure(spec).probe(spec, spec.expose).endpoint("web")
        return found.host, found.port, found.virtual_host

    def refusal(self, spec: EndpointSpec, after: Callable[[], object] | None = None) -> str:
        """Return why there is none at the deadline, which passes after some tries."""
        assert spec.expose
        deadline = DeadlineWhen(after or (lambda: self.looks > 1))
        with pytest.raises(KindInfraError) as caught:
            self.exposure(spec, deadline).probe(spec, spec.expose)
        return str(caught.value)


@pytest.fixture
def cluster(fake: FakeKubernetes, tmp_path: Path) -> Iterator[Cluster]:
    with closing(Kube(fake.write_kubeconfig(tmp_path / "kubeconfig"))) as kube:
        yield Cluster(fake, kube)


def with_port(k8s: Obj, **port: Any) -> Obj:
    return {**k8s, "spec": {**k8s["spec"], "ports": [{"name": "web", **port}]}}


NODE_PORT = replace(WEB, expose="node-port")


def test_a_node_port_is_asked_at_the_node_that_runs_the_pod(
    cluster: Cluster, web: ThreadingHTTPServer
) -> None:
    port = web.server_port
    cluster.put(with_port(k8s_service("NodePort"), port=80, nodePort=port))
    cluster.pod("127.0.0.1")

    assert cluster.address(NODE_PORT) == ("127.0.0.1", port, "")


def test_of_several_addresses_the_first_that_takes_a_connection_is_used(
    cluster: Cluster, web: ThreadingHTTPServer
) -> None:
    port = web.server_port
    cluster.put(with_port(k8s_service("NodePort"), port=80, nodePort=port))
    cluster.pod("127.0.0.9", "one")  # nothing listens there
    for name, external in (("one", "127.0.0.1"), ("other", "127.0.0.8")):
        addresses = [
            {"type": "Hostname", "address": name},
            {"type": "ExternalIP", "address": external},
        ]
        cluster.fake.put(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name},
                "status": {"addresses": addresses},
            }
        )

    assert cluster.address(NODE_PORT) == ("127.0.0.1", port, "")


def test_pods_tell_the_address_where_nodes_may_not_be_listed(
    cluster: Cluster, web: ThreadingHTTPServer
) -> None:
    port = web.server_port
    cluster.put(with_port(k8s_service("NodePort"), port=80, nodePort=port))
    cluster.pod("127.0.0.1")
    cluster.fake.forbidden = lambda _method, path: path.endswith("/nodes")

    assert cluster.address(NODE_PORT) == ("127.0.0.1", port, "")


def test_a_workload_is_reached_through_the_k8s_service_that_was_added(
    cluster: Cluster, web: ThreadingHTTPServer
) -> None:
    port = web.server_port
    spec = {"selector": {"matchLabels": LABELS}, "template": {"metadata": {"labels": LABELS}}}
    meta = {"name": "web"}
    cluster.put({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
    added = with_port(k8s_service("NodePort"), port=8080, nodePort=port)
    cluster.put({**added, "metadata": {"name": "web-http-kindinfra"}})
    cluster.pod("127.0.0.1")

    found = replace(NODE_PORT, port=8080, workload="deployment/web")

    assert cluster.address(found) == ("127.0.0.1", port, "")


def test_a_k8s_service_of_others_without_a_node_port_is_an_error(cluster: Cluster) -> None:
    cluster.put(k8s_service())

    assert cluster.refusal(NODE_PORT) == (
        'endpoint "http": Service "web" has no nodePort for port 80\n'
        "To fix: set type: NodePort there"
    )


def test_nodes_that_take_no_connection_are_named_with_the_reason(cluster: Cluster) -> None:
    cluster.put(with_port(k8s_service("NodePort"), port=80, nodePort=1))
    cluster.pod("127.0.0.1")

    assert cluster.refusal(NODE_PORT) == (
        'endpoint "http" of "web" did not answer: nodePort 1: '
        "127.0.0.1: [Errno 111] Connection refused\nTo fix: let this host reach the nodes at that "
        'port, or set expose = "port-forward"'
    )


def test_a_load_balancer_is_waited_for(cluster: Cluster, web: ThreadingHTTPServer) -> None:
    cluster.put(with_port(k8s_service("LoadBalancer"), port=web.server_port))
    spec = replace(BALANCED, port=web.server_port)

    def give_address() -> None:
        cluster.looks += 1
        (k8s,) = cluster.objects
        status = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
        cluster.fake.put({**k8s, "status": status})

    cluster.look = give_address  # type: ignore[method-assign]

    assert cluster.address(spec) == ("127.0.0.1", web.server_port, "")
    assert cluster.looks == 1


FIX = (
    "\nTo fix: install a controller for k8s services of type LoadBalancer in the cluster (for "
    'kind: cloud-provider-kind), or set expose = "port-forward"'
)


def test_a_pending_load_balancer_says_that_no_controller_reacted(cluster: Cluster) -> None:
    cluster.put(k8s_service("LoadBalancer"))

    assert cluster.refusal(BALANCED) == (
        'endpoint "http" of "web" got no address: k8s service "web" is pending: no controller has '
        f"reacted to it (it has no events){FIX}"
    )


def test_a_pending_load_balancer_says_what_its_controller_said_last(cluster: Cluster) -> None:
    cluster.put(k8s_service("LoadBalancer"))
    other = cluster.fake.put({**k8s_service(), "metadata": {"name": "other"}})
    for about, message in (
        (cluster.objects[0], "first"),
        (cluster.objects[0], "quota exceeded"),
        (other, "not this one"),
    ):
        cluster.fake.event(about, "SyncLoadBalancerFailed", message)

    assert cluster.refusal(BALANCED) == (
        'endpoint "http" of "web" got no address: k8s service "web" is pending: '
        f"SyncLoadBalancerFailed: quota exceeded{FIX}"
    )


def test_a_k8s_service_of_others_of_another_type_is_an_error(cluster: Cluster) -> None:
    cluster.put(k8s_service())

    assert cluster.refusal(BALANCED) == (
        'endpoint "http": k8s service "web" has type ClusterIP, not LoadBalancer'
    )


def test_an_ingress_is_asked_at_the_declared_address_for_its_host(
    cluster: Cluster, web: ThreadingHTTPServer
) -> None:
    web.wanted = "shop.example.com"  # type: ignore[attr-defined]
    cluster.put(k8s_service(), ingress("shop.example.com"))
    spec = replace(INGRESS, address=f"127.0.0.1:{web.server_port}")

    assert cluster.address(spec) == ("127.0.0.1", web.server_port, "shop.example.com")


def test_clients_of_tests_name_that_host_too(web: ThreadingHTTPServer) -> None:
    web.wanted = "shop.example.com"  # type: ignore[attr-defined]
    asked = Endpoint(
        service="web", name="http", scheme="http", host="127.0.0.1", port=web.server_port,
        virtual_host="shop.example.com",
    )  # fmt: skip
    plain = replace(asked, name="plain", virtual_host="")
    stack: Any = SimpleNamespace(endpoint=lambda _, name: plain if name else asked)

    with Http(stack) as http:
        assert http("web").get("/").status_code == 200
        assert http("web", "plain").get("/").status_code == 404


def test_an_answer_of_the_controller_for_another_host_is_none(
    cluster: Cluster, web: ThreadingHTTPServer
) -> None:
    web.wanted = "other.example.com"  # type: ignore[attr-defined]
    cluster.put(k8s_service(), ingress("*.example.com"))
    tried = iter([False, False])
    address = f"127.0.0.1:{web.server_port}"

    text = cluster.refusal(replace(INGRESS, address=address), lambda: next(tried, True))

    assert text == (
        f'endpoint "http" of "web" did not answer: http://{address}/health '
        "(Host: web.example.com): HTTP status 404"
    )


def test_the_address_of_an_ingress_is_its_own_host_where_that_is_known(
    cluster: Cluster,
    web: ThreadingHTTPServer,
    names: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(exposure_ports(), "http", web.server_port)
    names["shop.example.com"] = "127.0.0.1"
    cluster.put(k8s_service(), ingress("shop.example.com"))

    assert cluster.address(INGRESS) == ("shop.example.com", web.server_port, "")


def test_the_address_of_an_ingress_is_else_what_its_controller_wrote(
    cluster: Cluster, web: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(exposure_ports(), "http", web.server_port)
    status = {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}}
    cluster.put(k8s_service(), {**ingress("shop.example.com"), "status": status})

    assert cluster.address(INGRESS) == ("127.0.0.1", web.server_port, "shop.example.com")


def exposure_ports() -> dict[str, int]:
    """Return where controllers listen: tests have no port 80."""
    from pytest_kindinfra.plan.exposure import WEB_PORTS

    return WEB_PORTS


def test_a_pending_ingress_says_what_can_be_done(cluster: Cluster) -> None:
    cluster.put(k8s_service(), ingress())

    assert cluster.refusal(INGRESS) == (
        'endpoint "http" of "web" got no address: Ingress "entry" is pending: no controller has '
        "reacted to it (it has no events)\nTo fix: install an Ingress controller in the cluster; "
        'if its controller writes no address there, set address = "HOST:PORT" in the endpoint'
    )


def test_an_ingress_that_a_step_did_not_make_is_an_error(cluster: Cluster) -> None:
    cluster.put(k8s_service())

    assert cluster.refusal(INGRESS) == (
        'endpoint "http": no Ingress leads to k8s service "web" port 80'
    )


@pytest.mark.parametrize("headless", [None, "number", "name"])
def test_in_the_cluster_a_k8s_service_is_asked_by_its_name(
    cluster: Cluster, web: ThreadingHTTPServer, names: dict[str, str], headless: str | None
) -> None:
    """A headless one has no port of its own: the name leads to the pods."""
    names["web.default.svc"] = "127.0.0.1"
    port = web.server_port
    cluster.pod("127.0.0.9", port=port)
    inner = {"number": port, "name": "listen"}.get(headless or "", 8080)
    k8s = with_port(k8s_service(), port=80 if headless else port, targetPort=inner)
    cluster.put({**k8s, "spec": {**k8s["spec"], "clusterIP": "None" if headless else "10.96.0.7"}})

    found = cluster.address(replace(WEB, expose="in-cluster", port="web"))

    assert found == ("web.default.svc", port, "")


def test_a_broken_service_ends_the_wait_for_an_address(cluster: Cluster) -> None:
    cluster.put(k8s_service("LoadBalancer"))

    def break_down() -> None:
        msg = "it crashes"
        raise NotReadyError(msg)

    cluster.look = break_down  # type: ignore[method-assign]

    assert cluster.refusal(BALANCED) == "it crashes"

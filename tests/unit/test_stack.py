"""The recipe with everything around it faked: what comes up, what is held back, what is said."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.clusters.sweep import tear_down
from pytest_kindinfra.context import Hooks, Request, Tools, new_context
from pytest_kindinfra.errors import ClusterError, CommandError, ToolMissingError
from pytest_kindinfra.kube import client, refusals, troubles
from pytest_kindinfra.model import (
    Declaration,
    Endpoint,
    EndpointSpec,
    Image,
    KubeObject,
    Load,
    Need,
    Plan,
    PortMapping,
    Service,
)
from pytest_kindinfra.run.recipe import bring_up
from pytest_kindinfra.state.clusterrecords import ClusterNamed
from pytest_kindinfra.state.records import ClusterReady, ImageReady, PlanMade, ServiceReady
from pytest_kindinfra.state.results import Failed, Result
from pytest_kindinfra.system.timeline import Deadline, Timeline
from tests.fake_kubernetes import KEY, TOKEN, FakeKubernetes
from tests.fakes import (
    FakeEngine,
    FakeProvider,
    FakeRegistries,
    FakeRunner,
    eventually,
    fake_tools,
    takes_images,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kindinfra.protocols.engine import BuildRequest
    from pytest_kindinfra.state.directory import RunDirectory


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what is long for the sake of real clusters."""
    monkeypatch.setattr(client, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(troubles, "EVENTS_AFTER", 0.05)
    monkeypatch.setattr(troubles, "EVENTS_EVERY", 0.05)


class Web(BaseHTTPRequestHandler):
    """What stands behind every endpoint."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        yield server


def deployment(name: str, image: str) -> KubeObject:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [
                        {"name": name, "image": image, "readinessProbe": {"httpGet": {"port": 80}}}
                    ]
                },
            },
        },
    }


def k8s_service(name: str, selects: str | None = None) -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": selects or name}, "ports": [{"port": 80}]},
    }


def service(name: str, *needs: str, image: str | None = None) -> Service:
    return Service(
        name=name,
        images=(image,) if image else (),
        needs=tuple(Need(name=need) for need in needs),
        endpoints=(EndpointSpec(name="web", port=80, path="/"),),
    )


@dataclass
class Bench:
    """A bring-up of `db`, `api` that needs it, and `other` that needs nothing."""

    run: RunDirectory
    folder: Path
    kubernetes: FakeKubernetes
    web: int
    image: Image = Image(name="api")  # noqa: RUF009 - frozen
    engine: FakeEngine = field(default_factory=FakeEngine)
    provider: FakeProvider = field(default_factory=FakeProvider)
    runner: FakeRunner = field(default_factory=FakeRunner)
    timeline: Timeline = field(default_factory=Timeline)
    cancelled: threading.Event = field(default_factory=threading.Event)
    hooks: Hooks = field(default_factory=Hooks)
    timeout: float = 20
    selects: str | None = None
    load: Load = "auto"
    registry: str | None = None
    change: Callable[[Plan], Plan] = lambda plan: plan

    def __post_init__(self) -> None:
        self.registries = FakeRegistries(self.engine)
        self.runner.on_pipe = takes_images(self.provider)
        (self.folder / "Dockerfile").write_text("FROM scratch\n")
        self.provider.on_create = lambda _, path: self.kubernetes.write_kubeconfig(path)

    @property
    def plan(self) -> Plan:
        services = (service("db"), service("api", "db", image="api"), service("other"))
        images = {"db": "postgres:16", "api": "api", "other": "other:1"}
        return Plan(
            declaration=Declaration(folder=self.folder),
            services=services,
            images=(self.image,),
            objects={
                one.name: (
                    deployment(one.name, images[one.name]),
                    k8s_service(one.name, self.selects),
                )
                for one in services
            },
            image_uses={"db": {}, "api": {"api": "api"}, "other": {}},
            external={"db": ("postgres:16",), "api": (), "other": ("other:1",)},
            ports=tuple(
                PortMapping(
                    service=one.name,
                    endpoint="web",
                    node_port=30000 + number,
                    host_port=self.web,
                    in_manifest=False,
                )
                for number, one in enumerate(services)
            ),
        )

    @property
    def tools(self) -> Tools:
        return fake_tools(
            self.provider,
            engine=self.engine,
            runner=self.runner,
            timeline=self.timeline,
            registries=self.registries,
        )

    def bring_up(self) -> None:
        self.run.make()
        self.run.settle(PlanMade.of(self.plan, engine="docker"))
        request = Request(
            cluster="kindinfra-1",
            run_id="1",
            namespace="default",
            build_jobs=2,
            timeout=self.timeout,
            kind_config=None,
            node_image=None,
            load=self.load,
            registry=self.registry,
            tuning=False,
            folder=self.folder,
        )
        context = new_context(
            self.change(self.plan),
            request,
            tools=self.tools,
            run=self.run,
            hooks=self.hooks,
            cancelled=self.cancelled,
        )
        bring_up(context)

    def results(self) -> dict[str, str]:
        """Return the state of everything that has a result, with its root if it failed."""
        found: dict[str, Result | Failed | None] = {"cluster": self.run.settled(ClusterReady)}
        for name in ("db", "api", "other"):
            found[name] = self.run.settled(ServiceReady, name)
        return {name: _state_of(result) for name, result in found.items()}

    def failure(self, service: str = "") -> Failed:
        """Return the failed result of a service, or of the cluster."""
        result: Result | Failed | None = self.run.settled(ClusterReady)
        if service:
            result = self.run.settled(ServiceReady, service)
        assert isinstance(result, Failed)
        return result

    def deployed(self, name: str) -> KubeObject | None:
        path = f"/apis/apps/v1/namespaces/default/deployments/{name}"
        return self.kubernetes.objects.get(path)

    def fail_build(self, text: str = "no space left") -> None:
        def fail(_: BuildRequest) -> None:
            raise CommandError(["docker"], exit_code=1, output=text, what='building image "api"')

        self.engine.on_build = fail


def _state_of(result: Result | Failed | None) -> str:
    if result is None:
        return "none"
    return result.root if isinstance(result, Failed) else "ready"


@pytest.fixture
def bench(
    run: RunDirectory, tmp_path: Path, kubernetes: FakeKubernetes, web: int
) -> Iterator[Bench]:
    folder = tmp_path / "project"
    folder.mkdir()
    made = Bench(run, folder, kubernetes, web)
    yield made
    made.cancelled.set()  # as the end of a run does
    assert eventually(lambda: not [t for t in threading.enumerate() if "kindinfra" in t.name])


class TestEverythingWorks:
    def test_all_that_was_planned_is_there(self, bench: Bench) -> None:
        bench.engine.images["postgres:16"] = "sha256:1"

        bench.bring_up()

        assert bench.results() == dict.fromkeys(("cluster", "db", "api", "other"), "ready")
        api = bench.run.settled(ServiceReady, "api")
        web = Endpoint(service="api", name="web", scheme="http", host="127.0.0.1", port=bench.web)
        assert api == ServiceReady(endpoints=(web,))

    def test_manifests_run_what_was_built(self, bench: Bench) -> None:
        bench.bring_up()

        ready = bench.run.read(ImageReady, "api")
        assert ready
        api = bench.deployed("api")
        assert api
        (container,) = api["spec"]["template"]["spec"]["containers"]
        assert container["image"] == ready.image.reference
        assert ready.image.contexts == tuple(bench.engine.built)
        assert container["imagePullPolicy"] == "IfNotPresent"

    def test_pods_run_what_a_registry_calls_their_images(self, bench: Bench) -> None:
        bench.load, bench.registry = "registry", bench.registries.mine
        bench.engine.images["postgres:16"] = "sha256:0123456789abcdef"

        bench.bring_up()

        images = {}
        for name in ("db", "api", "other"):
            obj = bench.deployed(name)
            assert obj
            images[name] = obj["spec"]["template"]["spec"]["containers"][0]["image"]
        mine = bench.registries.mine
        assert images["db"] == f"{mine}/library/postgres:16-0123456789ab@sha256:0123456789ab"
        assert images["api"].startswith(f"{mine}/api:")
        assert images["other"] == "other:1"
        names = [images[name].partition("@")[0] for name in ("db", "api")]
        assert sorted(bench.engine.pushed) == sorted(names)
        told = "/api/v1/namespaces/kube-public/configmaps/local-registry-hosting"
        assert told in bench.kubernetes.objects

    def test_a_registry_that_is_not_there_fails_the_cluster(self, bench: Bench) -> None:
        bench.load, bench.registry = "registry", "localhost:9"

        bench.bring_up()

        assert bench.results()["cluster"] == "the cluster"
        assert "nothing at localhost:9" in bench.failure().full

    def test_images_that_the_engine_has_are_loaded_and_others_left_to_be_pulled(
        self, bench: Bench
    ) -> None:
        bench.engine.images["postgres:16"] = "sha256:1"

        bench.bring_up()

        sent = {reference for pipe in bench.runner.pipes for reference in pipe.source[1:]}
        ready = bench.run.read(ImageReady, "api")
        assert ready is not None
        assert sent == {"postgres:16", ready.image.reference}

    def test_every_stretch_of_work_is_on_record(self, bench: Bench) -> None:
        bench.bring_up()

        names = {phase.name for phase in bench.timeline.phases}
        assert names >= {"create cluster", "wait cluster", "build api", "load api"}
        assert names >= {f"{kind} {one}" for kind in ("deploy", "wait") for one in ("db", "api")}
        assert all(phase.ok for phase in bench.timeline.phases)

    def test_a_service_is_applied_once_what_it_needs_is_ready(self, bench: Bench) -> None:
        bench.bring_up()

        phases = {phase.name: phase for phase in bench.timeline.phases}
        assert phases["wait db"].end <= phases["deploy api"].start

    def test_hooks_are_called_on_the_way(self, bench: Bench) -> None:
        called: list[tuple[str, str]] = []
        bench.hooks = Hooks(
            before_build=lambda image: called.append(("before build", image.name)),
            before_deploy=lambda *, stack, service: called.append(
                (f"before deploy, {stack.cluster}", service.name)
            ),
            after_deploy=lambda *, stack, service: called.append(
                (f"after deploy, {stack.url(service.name)}", service.name)
            ),
        )

        bench.bring_up()

        assert [what for what, name in called if name == "api"] == [
            "before build",
            "before deploy, kindinfra-1",
            f"after deploy, http://127.0.0.1:{bench.web}",
        ]

    def test_tearing_down_deletes_the_cluster(self, bench: Bench, soon: Deadline) -> None:
        bench.bring_up()

        tear_down("kindinfra-1", tools=bench.tools, kubeconfig=bench.run.kubeconfig, deadline=soon)

        assert bench.provider.clusters == {}

    def test_a_kind_node_that_comes_after_the_deletion_is_deleted_too(
        self, bench: Bench, soon: Deadline, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C while the engine made the container left a cluster behind."""
        deletions: list[str] = []

        class Late(FakeProvider):
            def delete(self, name: str, *, kubeconfig: Path, deadline: Deadline) -> None:
                super().delete(name, kubeconfig=kubeconfig, deadline=deadline)
                deletions.append(name)
                if len(deletions) == 1:
                    self.clusters[name] = (f"{name}-control-plane",)

        monkeypatch.setattr("pytest_kindinfra.clusters.sweep._LATE_EVERY", 0.01)
        monkeypatch.setattr("pytest_kindinfra.clusters.sweep._LATE", 0.1)
        bench.provider = Late()

        tear_down("k", tools=bench.tools, kubeconfig=bench.run.kubeconfig, deadline=soon)

        assert bench.provider.clusters == {}
        assert deletions == ["k", "k"]


class TestSomethingFails:
    def test_an_image_that_cannot_be_built_holds_back_what_runs_it_and_no_more(
        self, bench: Bench
    ) -> None:
        bench.fail_build()

        bench.bring_up()

        assert bench.results() == {
            "cluster": "ready",
            "db": "ready",
            "api": 'image "api"',
            "other": "ready",
        }
        record = bench.failure("api")
        assert "no space left" in record.full
        head = 'service "api" failed to start: image "api" failed to build:\n'
        assert record.short.startswith(head)
        assert len(record.short.splitlines()) <= 5
        assert bench.deployed("api") is None

    def test_a_service_that_breaks_holds_back_what_needs_it_and_no_more(self, bench: Bench) -> None:
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
        bench.kubernetes.breaks["db"] = {
            "state": {"waiting": waiting},
            "restartCount": 9,
            "ready": False,
        }

        bench.bring_up()

        assert bench.results() == {
            "cluster": "ready",
            "db": 'service "db"',
            "api": 'service "db"',
            "other": "ready",
        }
        assert "CrashLoopBackOff" in bench.failure("api").full
        assert bench.deployed("api") is None

    def test_an_endpoint_without_pods_is_reported_with_its_k8s_services_selector(
        self, bench: Bench
    ) -> None:
        bench.timeout, bench.selects = 1.5, "dbb"
        with socket.create_server(("127.0.0.1", 0)) as listener:
            bench.web = listener.getsockname()[1]

        bench.bring_up()

        assert bench.failure("db").full == (
            f'endpoint "web" of "db" did not answer within {bench.timeout:g} s '
            f"(--kindinfra-timeout): http://127.0.0.1:{bench.web}/: "
            "[Errno 111] Connection refused\n"
            'k8s service "db": no pod behind it (it selects app=dbb)'
        )

    def test_a_hook_that_raises_fails_its_service_and_what_needs_it(self, bench: Bench) -> None:
        def before_deploy(*, stack: Any, service: Service) -> None:
            if service.name == "db":
                msg = f"no seed for {stack.cluster}"
                raise LookupError(msg)

        bench.hooks = Hooks(before_deploy=before_deploy)

        bench.bring_up()

        assert bench.results() == {
            "cluster": "ready",
            "db": 'service "db"',
            "api": 'service "db"',
            "other": "ready",
        }
        assert "no seed for kindinfra-1" in bench.failure("db").full

    def test_a_cluster_that_cannot_be_made_is_the_cause_of_all(self, bench: Bench) -> None:
        def fail(_: str, __: Path) -> None:
            raise CommandError(["kind"], exit_code=1, output="port is already allocated")

        bench.provider.on_create = fail

        bench.bring_up()

        assert bench.results() == dict.fromkeys(("cluster", "db", "api", "other"), "the cluster")
        assert "port is already allocated" in bench.failure().full
        assert bench.cancelled.is_set()

    def test_a_cluster_of_that_name_is_left_alone(self, bench: Bench) -> None:
        bench.provider.clusters["kindinfra-1"] = ("somebody's-node",)

        bench.bring_up()

        assert bench.provider.clusters == {"kindinfra-1": ("somebody's-node",)}
        assert 'there is already a cluster "kindinfra-1"' in bench.failure().full
        assert bench.run.read(ClusterNamed) is None

    def test_a_tool_that_is_not_there_is_said_once(self, bench: Bench) -> None:
        bench.engine.version = ToolMissingError('"docker" is not on PATH\nTo fix: install it')

        bench.bring_up()

        assert set(bench.results().values()) == {"the set-up"}
        assert bench.failure("db").full == ('"docker" is not on PATH\nTo fix: install it')
        assert bench.provider.clusters == {}


class TestSecrets:
    """Of a failure nothing is written that a build must not show."""

    TOKEN = "tok-4f3a9c2e77"
    IMAGE = Image(name="api", build_args=(("VERSION", "${NPM_TOKEN}"),))

    def test_a_hook_that_raises_before_anything_is_built_shows_none(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: Image) -> None:
            msg = f"cannot log in with {self.TOKEN}"
            raise ValueError(msg)

        monkeypatch.setenv("NPM_TOKEN", self.TOKEN)
        bench.image, bench.hooks = self.IMAGE, Hooks(before_build=fail)

        bench.bring_up()

        record = bench.failure("api")
        assert record.full.endswith("ValueError: cannot log in with ***\n")
        assert self.TOKEN not in str(record)

    def test_a_token_that_a_hook_fetched_for_the_build_is_not_shown(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("NPM_TOKEN", "of the day before")
        bench.hooks = Hooks(before_build=lambda _: monkeypatch.setenv("NPM_TOKEN", self.TOKEN))
        bench.image = self.IMAGE
        bench.fail_build(f"login with {self.TOKEN} failed")

        bench.bring_up()

        record = bench.failure("api")
        assert "login with *** failed" in record.short
        assert self.TOKEN not in str(record)

    def test_the_clusters_key_is_not_shown_though_it_did_not_come_up(self, bench: Bench) -> None:
        def fail(_: str, path: Path) -> None:
            bench.kubernetes.write_kubeconfig(path)
            msg = f"kubeadm failed, token {TOKEN}, key {KEY}"
            raise ClusterError(msg)

        bench.provider.on_create = fail

        bench.bring_up()

        record = bench.failure()
        assert record.full == "kubeadm failed, token ***, key ***"


class TestTheRunEnds:
    def test_everything_is_given_up_at_once(self, bench: Bench) -> None:
        def cancel(_: BuildRequest) -> None:
            bench.cancelled.set()

        bench.engine.on_build = cancel
        bench.provider.on_create = lambda *_: bench.cancelled.wait(60)

        bench.bring_up()

        records = [bench.failure(name) for name in ("db", "api", "other")]
        assert [record.cancelled for record in records] == [True, True, True]

    def test_what_is_there_already_stays_there(self, bench: Bench) -> None:
        def before_deploy(*, stack: Any, service: Service) -> None:
            if service.name == "api":  # which needs db
                assert stack.url("db")
                bench.cancelled.set()

        bench.hooks = Hooks(before_deploy=before_deploy)

        bench.bring_up()

        assert isinstance(bench.run.settled(ServiceReady, "db"), ServiceReady)
        assert bench.failure("api").cancelled is True


def _early(plan: Plan) -> Plan:
    """Let `db` come before the nodes."""
    services = [replace(one, before="nodes" if one.name == "db" else None) for one in plan.services]
    return replace(plan, services=tuple(services))


class TestServicesBeforeTheNodes:
    """A network plugin: no node gets Ready before it is there."""

    @pytest.fixture
    def node(self, bench: Bench) -> dict[str, str]:
        """Return the Ready condition of the node, which is not."""
        bench.change = _early
        condition: dict[str, str] = bench.kubernetes.objects["/api/v1/nodes/fake-control-plane"][
            "status"
        ]["conditions"][0]
        condition.update(status="False", message="cni plugin not initialized")
        return condition

    def test_they_are_deployed_while_no_node_is_ready(
        self, bench: Bench, node: dict[str, str]
    ) -> None:
        seen: dict[str, str] = {}

        def after(*, stack: Any, service: Service) -> None:
            seen[service.name] = node["status"]
            if service.name == "db":
                seen["kubeconfig"] = str(stack.kubeconfig)
                node["status"] = "True"

        bench.hooks = Hooks(after_deploy=after)
        bench.bring_up()

        assert bench.results() == dict.fromkeys(("cluster", "db", "api", "other"), "ready")
        assert seen["db"] == "False"
        assert seen["api"] == seen["other"] == "True"
        assert seen["kubeconfig"] == str(bench.run.kubeconfig)

    def test_a_failure_of_one_ends_the_wait_for_nodes(
        self, bench: Bench, node: dict[str, str]
    ) -> None:
        def refuse(*, stack: Any, service: Service) -> None:
            del stack
            msg = f"no {service.name}"
            raise ClusterError(msg)

        bench.hooks = Hooks(before_deploy=refuse)
        bench.timeout = 600
        bench.bring_up()

        assert node["status"] == "False"
        assert bench.results() == dict.fromkeys(("cluster", "db", "api", "other"), 'service "db"')


class TestWhatNothingBrings:
    @pytest.fixture(autouse=True)
    def _hurry(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(refusals, "MISSING_GRACE", 0.2)

    def in_shop(self, plan: Plan, namespace: str = "shop") -> Plan:
        """Put an object of `other` into a namespace that no manifest makes."""
        settings = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": namespace},
        }
        return replace(plan, objects={**plan.objects, "other": (settings, *plan.objects["other"])})

    def test_a_missing_namespace_is_made(self, bench: Bench) -> None:
        bench.change = self.in_shop

        bench.bring_up()

        assert bench.results()["other"] == "ready"
        assert "/api/v1/namespaces/shop" in bench.kubernetes.objects

    def test_a_near_miss_of_a_namespace_fails_within_seconds_not_at_the_time_out(
        self, bench: Bench
    ) -> None:
        bench.change, bench.timeout = partial(self.in_shop, namespace="defalt"), 600

        bench.bring_up()

        assert bench.results()["other"] == 'service "other"'
        told = bench.failure("other").full
        assert 'namespaces "defalt" not found' in told
        assert 'To fix: correct the name, or add Namespace "defalt"' in told

    def test_it_is_waited_for_while_a_hook_may_still_make_it(self, bench: Bench) -> None:
        said: list[str] = []
        made = threading.Event()

        def before(*, stack: Any, service: Service) -> None:
            if service.name == "api":
                assert eventually(lambda: said)
                stack.api.ensure_namespace("shop", Deadline.after(60), {})
                made.set()

        def beat(running: tuple[Any, ...]) -> None:
            said.extend(one.says() for one in running if one.subject == "other" and one.says())

        bench.change = self.in_shop
        bench.hooks = Hooks(before_deploy=before, heartbeat=beat, deploying=True)
        bench.bring_up()

        assert made.is_set()
        assert said[0] == 'namespaces "shop" not found'
        assert bench.results()["other"] == "ready"

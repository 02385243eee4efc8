"""The Secret for pods that pull: which run has one, where it goes, and what is said without it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_kindinfra.context import ExistingCluster, Request
from pytest_kindinfra.deploy.apply import Target, apply_objects
from pytest_kindinfra.deploy.pullsecret import (
    PullSecretPlaces,
    find_pull_secret,
    needed_secrets,
    problems_of_pull_secret,
)
from pytest_kindinfra.errors import EngineError
from pytest_kindinfra.kube.rewrite import ImagesInUse, rewrite
from pytest_kindinfra.model import (
    Declaration,
    Image,
    KubeObject,
    Plan,
    Service,
)
from pytest_kindinfra.references import PullSecret
from tests.fakes import FakeEngine, fake_tools

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline

HUB = "hub.example/team"
PASSWORD = "tok-4f3a9c2e77"
AUTH = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
PULL = PullSecret(name="kindinfra-pull-run-1", registry=HUB, config='{"auths": {}}')


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder in which nobody has logged in."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DOCKER_CONFIG", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def log_in(home: Path) -> None:
    (home / ".docker").mkdir()
    config = {"auths": {"hub.example": {"auth": AUTH}}}
    (home / ".docker" / "config.json").write_text(json.dumps(config))


def pod(image: str, name: str = "api", namespace: str | None = None) -> KubeObject:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    spec = {"containers": [{"name": "main", "image": image}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def elsewhere(folder: Path, *, nodes: tuple[str, ...] = ()) -> ExistingCluster:
    return ExistingCluster(kubeconfig=folder / "kubeconfig", name="dev", nodes=nodes)


def request_of(folder: Path, **changes: Any) -> Request:
    made = Request(
        cluster="dev",
        run_id="RUN_1",
        namespace="default",
        build_jobs=1,
        timeout=60,
        kind_config=None,
        node_image=None,
        tuning=False,
        folder=folder,
        existing=elsewhere(folder),
        image_registry=HUB,
    )
    return replace(made, **changes)


def plan_of(folder: Path, *objects: KubeObject, wanted: bool = True, **parts: Any) -> Plan:
    return Plan(
        declaration=Declaration(folder=folder, pull_secret=wanted),
        services=(Service(name="api"),),
        images=(Image(name="api"), Image(name="store", prebuilt="other.example/store:1")),
        objects={"api": objects},
        image_uses={"api": {"api": "api", "store": "store"}},
        **parts,
    )


class TestItsCredentials:
    """`docker login` was done, or was not."""

    def test_are_checked_before_the_run(self, home: Path) -> None:
        plan, request = plan_of(home), request_of(home)

        (before,) = problems_of_pull_secret(plan, request, fake_tools())
        log_in(home)

        assert before.startswith(
            f"[images] pull_secret: {home}/.docker/config.json has no user and password for"
            ' "hub.example", so no pull secret can be made\nTo fix: docker login hub.example;'
        )
        assert list(problems_of_pull_secret(plan, request, fake_tools())) == []

    def test_are_those_of_docker(self, home: Path) -> None:
        tools = fake_tools(engine=FakeEngine(name="podman"))

        assert list(problems_of_pull_secret(plan_of(home), request_of(home), tools)) == [
            "[images] pull_secret needs the credentials of Docker, but the engine is podman"
        ]

    @pytest.mark.parametrize("existing", [True, False])
    def test_need_a_registry_to_be_for(self, home: Path, *, existing: bool) -> None:
        request = request_of(home, image_registry=None)
        request = request if existing else replace(request, existing=None)

        (problem,) = problems_of_pull_secret(plan_of(home), request, fake_tools())

        assert problem == (
            "[images] pull_secret: no registry of images is named\n"
            "  To fix: set [images] registry or --kindinfra-registry, or remove pull_secret"
        )

    def test_become_a_docker_config_and_are_masked_from_then_on(
        self, home: Path, soon: Deadline
    ) -> None:
        log_in(home)
        tools = fake_tools()
        context: Any = SimpleNamespace(
            plan=plan_of(home), request=request_of(home), tools=tools, deadline=lambda: soon
        )

        found = find_pull_secret(context)

        assert found is not None
        assert found.name == "kindinfra-pull-run-1"
        assert json.loads(found.config) == {"auths": {"hub.example": {"auth": AUTH}}}
        for secret in (PASSWORD, AUTH, base64.b64encode(found.config.encode()).decode()):
            assert tools.redactor.text(f"<{secret}>") in {"<***>", "<***=>", "<***==>"}

    def test_that_are_gone_by_then_fail_what_needs_them(self, home: Path, soon: Deadline) -> None:
        context: Any = SimpleNamespace(
            plan=plan_of(home), request=request_of(home), tools=fake_tools(), deadline=lambda: soon
        )

        with pytest.raises(EngineError, match="so no pull secret can be made"):
            find_pull_secret(context)


@pytest.mark.parametrize(
    ("wanted", "changes"),
    [
        (False, {}),
        (True, {"existing": None}),
        (True, {"existing": ExistingCluster(kubeconfig=None, name="k", nodes=("k-worker",))}),  # type: ignore[arg-type]
    ],
    ids=["not asked for", "a kind cluster that the run creates", "a kind cluster of this host"],
)
def test_there_is_none_where_nodes_need_none(
    home: Path, soon: Deadline, changes: dict[str, Any], *, wanted: bool
) -> None:
    """Nobody has logged in: credentials are not even looked for."""
    plan, request = plan_of(home, pod("api"), wanted=wanted), request_of(home, **changes)
    context: Any = SimpleNamespace(
        plan=plan, request=request, tools=fake_tools(), deadline=lambda: soon
    )

    assert find_pull_secret(context) is None
    assert needed_secrets(plan, request) == []
    assert list(problems_of_pull_secret(plan, request, fake_tools())) == []


class TestWhereItGoes:
    """Rights for it are asked for there, and nowhere else."""

    def needed(self, home: Path, *objects: KubeObject, **parts: Any) -> list[str]:
        found = needed_secrets(plan_of(home, *objects, **parts), request_of(home))
        assert {obj["metadata"]["name"] for obj, _ in found} <= {"kindinfra-pull-run-1"}
        return [place for _, place in found]

    @pytest.mark.parametrize("image", ["api", f"{HUB}/db:1", "${image:api}"])
    def test_it_goes_where_pods_run_images_of_the_registry(self, home: Path, image: str) -> None:
        assert self.needed(home, pod(image), pod(image, name="other")) == ["default"]
        assert self.needed(home, pod(image, namespace="shop")) == ["shop"]
        assert self.needed(home, pod(image), namespaces={"api": "worker-1"}) == ["worker-1"]

    @pytest.mark.parametrize("image", ["redis:7", "store", "hub.example/others/db:1"])
    def test_other_images_do_not_need_it(self, home: Path, image: str) -> None:
        assert self.needed(home, pod(image)) == []

    def test_each_namespace_gets_it_once_before_the_first_pod(self, soon: Deadline) -> None:
        applied: list[tuple[str, str]] = []

        def apply(obj: KubeObject, *, namespace: str, **_: Any) -> None:
            applied.append((obj["kind"], obj["metadata"].get("namespace") or namespace))

        kube: Any = SimpleNamespace(apply=apply)
        apply_objects(
            Service(name="api"),
            [pod("redis"), pod("api"), pod("api", name="b"), pod("api", namespace="shop")],
            target=Target(kube=kube, namespace="default"),
            images=ImagesInUse(
                written={"api": f"{HUB}/api@sha256:1"}, loaded=frozenset(), declared={}, pull=PULL
            ),
            deadline=soon,
        )

        assert applied == [
            ("Pod", "default"),
            ("Secret", "default"),
            ("Pod", "default"),
            ("Pod", "default"),
            ("Secret", "shop"),
            ("Pod", "shop"),
        ]

    def test_it_is_of_the_type_that_kubelets_read(self, soon: Deadline) -> None:
        applied: list[KubeObject] = []
        kube: Any = SimpleNamespace(apply=lambda obj, **_: applied.append(obj))

        PullSecretPlaces(PULL, kube, soon).serve(pod(f"{HUB}/api:1"), "default")

        assert applied == [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/dockerconfigjson",
                "metadata": {"name": "kindinfra-pull-run-1"},
                "data": {".dockerconfigjson": base64.b64encode(PULL.config.encode()).decode()},
            }
        ]

    def test_without_one_nothing_is_applied(self, soon: Deadline) -> None:
        PullSecretPlaces(None, SimpleNamespace(), soon).serve(pod(f"{HUB}/api:1"), "n")  # type: ignore[arg-type]


class TestPods:
    """What becomes of their specs."""

    def spec(self, obj: KubeObject) -> dict[str, Any]:
        made = rewrite(obj, images={"api": f"{HUB}/api@sha256:1"}, namespace="n", labels={},
                       pull=PULL)  # fmt: skip
        found: dict[str, Any] = made["spec"]
        return found

    @pytest.mark.parametrize("image", ["api", f"{HUB}/db:1"])
    def test_that_run_images_of_the_registry_name_it(self, image: str) -> None:
        assert self.spec(pod(image))["imagePullSecrets"] == [{"name": PULL.name}]

    @pytest.mark.parametrize(
        "image", ["redis:7", "hub.example/others/db:1", "hub.example/teams/db:1"]
    )
    def test_that_run_others_do_not(self, image: str) -> None:
        assert "imagePullSecrets" not in self.spec(pod(image))

    def test_keep_the_secrets_that_they_name(self) -> None:
        obj = pod("api")
        obj["spec"]["imagePullSecrets"] = [{"name": "mine"}]

        assert self.spec(obj)["imagePullSecrets"] == [{"name": "mine"}, {"name": PULL.name}]
        assert obj["spec"]["imagePullSecrets"] == [{"name": "mine"}]

    def test_that_have_it_already_get_it_once(self) -> None:
        obj = pod("api")
        obj["spec"]["imagePullSecrets"] = [{"name": PULL.name}]

        assert self.spec(obj)["imagePullSecrets"] == [{"name": PULL.name}]

    def test_of_workloads_name_it_too(self) -> None:
        template = {"spec": {"initContainers": [{"image": "api"}], "containers": []}}
        job = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "x"},
               "spec": {"jobTemplate": {"spec": {"template": template}}}}  # fmt: skip

        made = self.spec(job)["jobTemplate"]["spec"]["template"]["spec"]

        assert made["imagePullSecrets"] == [{"name": PULL.name}]


def test_what_is_written_of_it_has_no_credentials() -> None:
    assert "auths" not in repr(PULL)


def test_it_keeps_its_name_where_services_stay_for_the_next_run(home: Path) -> None:
    """Each `kindinfra up` replaced all pods, since they named another Secret."""
    log_in(home)
    stays = replace(elsewhere(home), run_id="first")
    requests = [request_of(home, run_id=name, existing=stays) for name in ("first", "second")]

    names = {
        obj["metadata"]["name"]
        for request in requests
        for obj, _ in needed_secrets(plan_of(home, pod("api")), request)
    }

    assert names == {"kindinfra-pull-first"}


def test_who_only_names_the_secret_does_not_write_an_empty_one(soon: Deadline) -> None:
    """A fresh restart of a service with a step did, which the API server refuses."""
    named = replace(PULL, config="")
    nothing = cast("Any", SimpleNamespace())  # has no `apply`

    PullSecretPlaces(named, nothing, soon).serve(pod(f"{HUB}/api:1"), "default")

"""Every check before a run is made whoever asks: pytest, `kindinfra up`, the functions."""

from __future__ import annotations

import importlib.util
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_kindinfra import create_cluster, resolve
from pytest_kindinfra.commands.up import up
from pytest_kindinfra.errors import CommandError, DeclarationError
from pytest_kindinfra.run import prepare as preparing
from pytest_kindinfra.run.prepare import Door, prepare, read_declaration
from pytest_kindinfra.session.planning import prepare_run
from pytest_kindinfra.state.records import Needs
from tests.fakes import FakeEngine, FakeProvider, FakeRegistries, fake_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.run.prepare import Prepared

DECLARATION = """
[cluster]
config = "kind.yaml"
[images.api]
context = "api"
[services.web]
manifests = ["web.yaml"]
"""
BASE = """
[images.base]
prebuilt = "base:1"
"""
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: api, ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80}]}
"""
KIND = "{kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4, nodes: [{role: control-plane}]}\n"
ENDPOINT = '[services.web.endpoints.http]\nport = 80\nscheme = "tcp"\n'


class World:
    """A project that is in order, on a machine that is in order."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, listener: socket.socket
    ) -> None:
        self.folder = folder / "project"
        self.programs = folder / "bin"
        self.patch, self.listener = monkeypatch, listener
        self.engine, self.provider = FakeEngine(), FakeProvider()
        self.free = 1 << 60
        self.write("kindinfra.toml", DECLARATION)
        self.write("web.yaml", WEB)
        self.write("kind.yaml", KIND)
        self.write("api/Dockerfile", "FROM scratch\n")
        self.programs.mkdir()
        for name in os.environ:
            if name.startswith(("KINDINFRA_", "DOCKER_", "CONTAINER")):
                monkeypatch.delenv(name)
        monkeypatch.setenv("PATH", str(self.programs))  # no real engine can be reached
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.chdir(self.folder)
        monkeypatch.setattr(preparing, "make_tools", self.make_tools)
        usage = "pytest_kindinfra.run.machine.shutil.disk_usage"
        monkeypatch.setattr(usage, lambda _: SimpleNamespace(free=self.free))

    def make_tools(self, engine: str) -> Tools:
        assert engine in {"docker", "podman"}, "the engine has been chosen"
        self.engine.name = engine
        return fake_tools(self.provider, engine=self.engine, registries=FakeRegistries(self.engine))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def declare(self, text: str, *, before: str = "[services.web]") -> None:
        self.write("kindinfra.toml", DECLARATION.replace(before, text + before))

    def option(self, **values: str) -> None:
        for key, value in values.items():
            self.patch.setenv(f"KINDINFRA_{key.upper()}", value)

    def install(self, program: str) -> None:
        (self.programs / program).write_text("#!/bin/false\n")
        (self.programs / program).chmod(0o700)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with socket.socket() as listener:
        yield World(tmp_path, monkeypatch, listener)


# -- the doors ------------------------------------------------------------------------------------


class Hook:
    """pytest's hooks, none of which is implemented."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, **_: Any) -> list[Any]:
        return []

    def get_hookimpls(self) -> list[Any]:
        return []


def not_given(_name: str) -> None:
    """No option is given."""


class AllHooks:
    def __getattr__(self, name: str) -> Hook:
        return Hook(name)


def by_pytest(world: World) -> Prepared:
    config: Any = SimpleNamespace(
        rootpath=world.folder,
        getoption=lambda _name, default=None: default,
        hook=AllHooks(),
        stash=pytest.Stash(),
        args=[],
        invocation_params=SimpleNamespace(dir=world.folder),
    )
    wanted = Needs(services={"web": ("test_it.py::test_it",)}, tests=1)
    return prepare_run(config, wanted, "RUN")


def by_up(_world: World) -> object:
    return up(
        [],
        cluster=None,
        progress=lambda _phase, _ended: None,
        say=lambda _line: None,
        width=80,
        color=False,
    )


def by_functions(world: World) -> object:
    return create_cluster(resolve(folder=world.folder))


DOORS: tuple[Callable[[World], object], ...] = (by_pytest, by_up, by_functions)


# -- the checks: what goes wrong, and what is said of it ------------------------------------------


def a_file_that_does_not_exist(world: World) -> str:
    (world.folder / "api" / "Dockerfile").unlink()
    return '[images.api] dockerfile "api/Dockerfile"'


def a_kind_config_that_does_not_exist(world: World) -> str:
    world.option(kind_config="missing.yaml")
    return "missing.yaml"


def an_option_that_cannot_be_used(world: World) -> str:
    world.option(timeout="soon")
    return "KINDINFRA_TIMEOUT=soon: expected"


def a_plan_that_cannot_work(world: World) -> str:
    world.write("kindinfra.toml", f'{DECLARATION}needs = ["wep"]\n')
    return '"wep"'


def a_package_for_grpc(world: World) -> str:
    world.write("kindinfra.toml", DECLARATION + ENDPOINT.replace("tcp", "grpc"))
    found = importlib.util.find_spec
    world.patch.setattr(
        importlib.util, "find_spec", lambda name, *more: name != "h2" and found(name, *more)
    )
    return "the package h2 is missing"


def a_need_that_no_build_uses(world: World) -> str:
    world.declare('needs = ["base"]\n[images.base]\ncontext = "api"\n')
    return '[images.api] needs "base", but no FROM'


def a_build_option_that_the_engine_lacks(world: World) -> str:
    world.declare('build_options = ["--ulimit=nofile=9"]\n')
    world.engine.foreign = ("--ulimit=nofile=9",)
    return "docker does not know --ulimit"


def artifacts_on_a_network_file_system(world: World) -> str:
    world.write("proc/self/mounts", f"server:/home {world.folder} nfs4 rw 0 0\n")
    world.patch.setattr(psutil, "PROCFS_PATH", str(world.folder / "proc"))
    return "is on a network file system (nfs4)"


def saved_images_that_do_not_exist(world: World) -> str:
    world.option(images="nowhere")
    return "environment KINDINFRA_IMAGES: "


def a_registry_with_podman(world: World) -> str:
    world.option(load="registry", engine="podman")
    return 'environment KINDINFRA_LOAD: load = "registry" needs Docker, but the engine is podman'


def a_registry_with_podman_alone_installed(world: World) -> str:
    world.install("podman")
    world.option(load="registry")
    return 'load = "registry" needs Docker, but the engine is podman'


def a_registry_of_images_that_does_not_answer(world: World) -> str:
    def refuse(name: str) -> str:
        raise CommandError(["docker", name], exit_code=1, output="403", fix="log in")

    world.engine.on_ask = refuse
    world.option(registry="hub.example/team")
    return 'environment KINDINFRA_REGISTRY: "hub.example/team" cannot be used: a command failed'


def a_registry_of_images_with_podman(world: World) -> str:
    world.write("kindinfra.toml", f'{DECLARATION}\n[images]\nregistry = "hub.example/team"\n')
    world.option(engine="podman")
    return "[images] registry: a registry of images needs Docker, but the engine is podman"


def a_builder_that_does_not_exist(world: World) -> str:
    world.option(builder="farm")
    return 'environment KINDINFRA_BUILDER: `docker buildx inspect` knows no builder "farm"'


def a_builder_with_podman(world: World) -> str:
    world.write("kindinfra.toml", f'{DECLARATION}\n[images]\nbuilder = "farm"\n')
    world.option(engine="podman")
    return '[images] builder: "farm" is a builder of docker buildx, but the engine is podman'


def a_builder_that_cannot_see_a_base(world: World) -> str:
    world.engine.builders["farm"] = False
    world.write("api/Dockerfile", "FROM base\n")
    world.write(
        "kindinfra.toml",
        DECLARATION.replace("[images.api]", f"{BASE}[images.api]\nneeds = ['base']"),
    )
    world.option(builder="farm")
    return (
        'the builder "farm" cannot see the images that others start FROM: "base"; name a registry'
    )


def a_port_of_the_kind_config_twice(world: World) -> str:
    mapping = "extraPortMappings: [{containerPort: 31999, hostPort: 8123}]"
    world.write("kind.yaml", KIND.replace("control-plane", f"control-plane, {mapping}"))
    world.write("kindinfra.toml", f"{DECLARATION}{ENDPOINT}host_port = 8123\n")
    return "host_port 8123 is taken by containerPort 31999 of the kind config"


def a_kind_config_without_a_network(world: World) -> str:
    world.write("kind.yaml", KIND.replace("nodes", "networking: {disableDefaultCNI: true}, nodes"))
    return "kind.yaml: networking.disableDefaultCNI is true"


def a_folder_that_cannot_be_mounted(world: World) -> str:
    world.option(artifacts="a:b")
    return 'a:b" has ":" in its path'


def an_engine_on_another_host(world: World) -> str:
    world.patch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    return 'the docker engine at "tcp://192.0.2.1:2375" is on another host'


def a_cluster_of_somebody_else(world: World) -> str:
    world.option(cluster_name="dev")
    world.provider.clusters["dev"] = ("dev-control-plane",)
    return 'there is already a cluster "dev", which no run of pytest-kindinfra created'


def a_cluster_that_may_be_in_use(world: World) -> str:
    world.option(cluster_name="dev")
    world.provider.clusters["dev"] = ("dev-control-plane",)
    world.provider.runs["dev"] = world.folder / "gone"
    return "is gone, or not of this machine"


def a_busy_port(world: World) -> str:
    world.listener.bind(("127.0.0.1", 0))
    world.listener.listen()
    port = world.listener.getsockname()[1]
    world.write("kindinfra.toml", f"{DECLARATION}{ENDPOINT}host_port = {port}\n")
    return f"host port {port} is busy"


def no_room_on_dockers_disk(world: World) -> str:
    world.free = 0
    return "the engine's disk (/var/lib/docker) has 0.0 GB free"


def no_room_on_podmans_disk_where_podman_alone_is_installed(world: World) -> str:
    world.install("podman")
    world.free = 0
    return "containers/storage) has 0.0 GB free"


CHECKS: tuple[Callable[[World], str], ...] = (
    a_file_that_does_not_exist,
    a_kind_config_that_does_not_exist,
    an_option_that_cannot_be_used,
    a_plan_that_cannot_work,
    a_package_for_grpc,
    a_need_that_no_build_uses,
    a_build_option_that_the_engine_lacks,
    artifacts_on_a_network_file_system,
    saved_images_that_do_not_exist,
    a_registry_with_podman,
    a_registry_with_podman_alone_installed,
    a_registry_of_images_that_does_not_answer,
    a_registry_of_images_with_podman,
    a_builder_that_does_not_exist,
    a_builder_with_podman,
    a_builder_that_cannot_see_a_base,
    a_port_of_the_kind_config_twice,
    a_kind_config_without_a_network,
    a_folder_that_cannot_be_mounted,
    an_engine_on_another_host,
    a_cluster_of_somebody_else,
    a_cluster_that_may_be_in_use,
    a_busy_port,
    no_room_on_dockers_disk,
    no_room_on_podmans_disk_where_podman_alone_is_installed,
)


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_each_check_is_made_whoever_asks(
    world: World, check: Callable[[World], str], door: Callable[[World], object]
) -> None:
    expected = check(world)

    with pytest.raises(DeclarationError) as caught:
        door(world)

    assert expected in str(caught.value)
    assert len(caught.value.problems) == 1
    assert not list(world.folder.glob(".kindinfra/2*"))


def test_without_any_of_these_problems_a_run_is_prepared(world: World) -> None:
    prepared = by_pytest(world)

    assert [one.name for one in prepared.plan.services] == ["web"]
    assert prepared.settings.engine == "docker"


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_all_problems_come_at_once(world: World, door: Callable[[World], object]) -> None:
    expected = [
        a_kind_config_without_a_network(world),
        a_registry_with_podman(world),
        a_folder_that_cannot_be_mounted(world),
        a_cluster_of_somebody_else(world),
    ]

    with pytest.raises(DeclarationError) as caught:
        door(world)

    assert len(caught.value.problems) == len(expected)
    assert [text for text in expected if text not in str(caught.value)] == []


class TestNamespacePerRun:
    @pytest.fixture
    def own(self, world: World) -> World:
        keys = 'namespace = "per-run"\nttl = "2h"\nquota = { pods = 9 }\n'
        world.write("kindinfra.toml", DECLARATION.replace("[images.api]", f"{keys}[images.api]"))
        return world

    def test_it_is_named_after_the_run_everywhere(self, own: World) -> None:
        prepared = by_pytest(own)

        assert prepared.request.namespace == "kindinfra-run"
        assert prepared.plan.declaration.cluster.namespace == "kindinfra-run"
        assert (prepared.request.ttl, prepared.request.quota) == (7200.0, (("pods", "9"),))

    def test_runs_that_reuse_a_cluster_share_the_default_one(self, own: World) -> None:
        own.option(reuse="1")

        assert by_pytest(own).request.namespace == "default"

    def test_each_plan_of_a_script_has_its_own(self, own: World) -> None:
        plans = [resolve(folder=own.folder, services=[]) for _ in range(2)]

        first, second = [plan.declaration.cluster.namespace for plan in plans]
        assert first.startswith("kindinfra-2")
        assert first != second


class TestWhatDiffers:
    def test_an_existing_cluster_is_used_and_reuse_is_refused_with_it(self, world: World) -> None:
        world.option(kubeconfig="missing", reuse="1")

        with pytest.raises(DeclarationError) as caught:
            by_pytest(world)

        assert "environment KINDINFRA_REUSE keeps services" in str(caught.value)
        assert "environment KINDINFRA_KUBECONFIG" in str(caught.value)

    def test_functions_bring_up_what_their_own_cluster_needs_before_its_nodes(
        self, world: World
    ) -> None:
        world.write("kindinfra.toml", f'{DECLARATION}before = "nodes"\n')

        plan = resolve(folder=world.folder, services=[])

        assert [one.name for one in plan.services] == ["web"]

    def test_functions_bring_up_nothing_of_that_in_an_existing_cluster(self, world: World) -> None:
        world.write("kindinfra.toml", f'{DECLARATION}before = "nodes"\n')
        world.option(kubeconfig="missing")

        assert resolve(folder=world.folder, services=[]).services == ()

    @pytest.mark.parametrize("purpose", ["resolve", "build", "plan"])
    def test_the_machine_is_checked_for_a_run_alone(self, world: World, purpose: Any) -> None:
        no_room_on_dockers_disk(world)
        declaration = read_declaration(world.folder)

        prepared = prepare(
            declaration, {"web": ["it"]}, option=not_given, door=Door(purpose=purpose)
        )

        assert prepared.plan.services

    @pytest.mark.parametrize(
        ("purpose", "refused"), [("resolve", False), ("build", False), ("plan", True)]
    )
    def test_the_kind_config_is_checked_where_a_cluster_is_wanted(
        self, world: World, purpose: Any, *, refused: bool
    ) -> None:
        a_kind_config_without_a_network(world)
        door, declaration = Door(purpose=purpose), read_declaration(world.folder)

        try:
            prepare(declaration, {"web": ["it"]}, option=not_given, door=door)
        except DeclarationError:
            assert refused
        else:
            assert not refused

    def test_pytest_that_only_shows_the_plan_does_not_check_the_machine(self, world: World) -> None:
        no_room_on_dockers_disk(world)
        world.option(plan="1")

        assert by_pytest(world).settings.plan

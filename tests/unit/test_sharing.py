"""`kindinfra snapshot make`, `push` and `pull`: what they do, and what they refuse."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.clusters.snapshot import credentials_for, misfit
from pytest_kindinfra.commands import images as image_commands
from pytest_kindinfra.commands import sharing
from pytest_kindinfra.commands.sharing import make_snapshot, pull_snapshot, push_snapshot
from pytest_kindinfra.errors import CommandError, DeclarationError, KindInfraError
from pytest_kindinfra.run import prepare as preparing
from pytest_kindinfra.system.timeline import now
from tests.fake_kubernetes import FakeKubernetes
from tests.fakes import (
    FakeEngine,
    FakeProvider,
    FakeRunner,
    FakeSnapshots,
    fake_tools,
    takes_images,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.protocols.snapshots import StoredSnapshot

REMOTE = "registry.example:5000/ci/snapshot:shop"
POD = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [%s]}}"
DECLARATION = """
[cluster]
node_image = "kindest/node:v1.34.4"
namespace = "shop"
[images.web]
context = "web"
[services.web]
manifests = ["web.yaml"]
"""
PROBE = "readinessProbe: {httpGet: {port: 80}}"


class Machine:
    """A project, and an engine that keeps snapshots of its clusters."""

    def __init__(self, folder: Path, kubernetes: FakeKubernetes) -> None:
        self.folder = folder
        self.kubernetes = kubernetes
        self.provider, self.engine, self.runner = FakeProvider(), FakeEngine(), FakeRunner()
        self.runner.on_pipe = takes_images(self.provider)
        self.provider.on_create = lambda _, path: kubernetes.write_kubeconfig(path)
        self.snapshots = FakeSnapshots(self.provider)
        self.engine.on_pull = self.receive
        self.offered: StoredSnapshot | None = None
        self.said: list[str] = []
        for name, text in {
            "kindinfra.toml": DECLARATION,
            "web/Dockerfile": "FROM scratch\n",
            "web.yaml": POD
            % f"{{name: a, image: web, {PROBE}}}, {{name: b, image: 'redis:7', {PROBE}}}",
        }.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)

    def tools(self, _engine: str = "auto") -> Tools:
        parts: dict[str, Any] = {"snapshots": self.snapshots}
        return fake_tools(self.provider, engine=self.engine, runner=self.runner, **parts)

    def receive(self, reference: str) -> None:
        """Have the registry's image in the engine, where it is a snapshot if one is offered."""
        if self.offered:
            self.snapshots.stored[reference] = replace(self.offered, reference=reference)

    def make(self, save: Path | None = None) -> StoredSnapshot:
        """Make a snapshot and return it."""
        made = make_snapshot([], save=save, progress=lambda _phase, _ended: None)
        stored = self.snapshots.stored[made.reference]
        self.engine.images[made.reference] = stored.id
        return stored

    def leave_to_the_registry(self) -> StoredSnapshot:
        """Have a snapshot in the registry that this engine does not have."""
        self.offered = self.make()
        self.snapshots.stored.clear()
        del self.engine.images[self.offered.reference]
        self.engine.removed.clear()
        return self.offered


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    for name in os.environ:
        if name.startswith(("KINDINFRA_", "KIND_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(preparing, "choose_engine", lambda _name: "docker")
    with FakeKubernetes() as kubernetes:
        machine = Machine(tmp_path, kubernetes)
        for module in (sharing, image_commands, preparing):
            monkeypatch.setattr(module, "make_tools", machine.tools)
        yield machine


class TestMake:
    def test_the_snapshot_has_the_images_and_nothing_that_was_deployed(
        self, machine: Machine
    ) -> None:
        phases: set[str] = set()

        made = make_snapshot([], save=None, progress=lambda phase, _ended: phases.add(phase.kind))

        (stored,) = machine.snapshots.stored.values()
        assert stored.notes is not None
        web, redis = sorted(made.images)
        assert (web.partition(":")[0], redis) == ("localhost/web", "redis:7")
        assert stored.notes.images == made.images
        assert machine.engine.pulled == ["redis:7"]
        assert machine.provider.clusters == {}
        assert {"build", "pull", "create", "load", "snapshot"} <= phases
        assert "deploy" not in phases
        applied = [path for path in machine.kubernetes.objects if "shop" in path or "pods" in path]
        assert applied == []  # also not the declared namespace
        assert made.line.startswith(f"made {stored.reference}  1 MB in ")
        assert json.loads(json.dumps(made.record))["images"] == list(made.images)

    def test_a_snapshot_of_the_same_key_is_replaced(self, machine: Machine) -> None:
        first = machine.make()

        second = machine.make()

        assert list(machine.snapshots.stored.values()) == [second]
        assert first.reference == second.reference

    def test_it_is_written_to_a_file_too(self, machine: Machine) -> None:
        file = machine.folder / "out" / "snapshot.tar"

        made = machine.make(save=file)

        assert file.read_text() == made.reference

    def test_a_file_that_cannot_be_written_is_named_before_anything_is_done(
        self, machine: Machine
    ) -> None:
        (machine.folder / "file").touch()

        with pytest.raises(KindInfraError, match=r'file" cannot be written: File exists\nTo fix'):
            machine.make(save=machine.folder / "file" / "snapshot.tar")

        assert machine.provider.configs == {}

    def test_an_image_that_cannot_be_built_leaves_nothing(self, machine: Machine) -> None:
        def fail(_: object) -> None:
            raise CommandError(["docker"], exit_code=1, output="no space", what='building "web"')

        machine.engine.on_build = fail

        with pytest.raises(KindInfraError, match=r'image "web" failed:\nbuilding "web": exit code'):
            machine.make()

        assert (machine.snapshots.stored, machine.provider.clusters) == ({}, {})

    def test_an_image_that_cannot_be_pulled_leaves_nothing(self, machine: Machine) -> None:
        def fail(reference: str) -> None:
            raise CommandError(
                ["docker"], exit_code=1, output="denied", what=f"pulling {reference}"
            )

        machine.engine.on_pull = fail

        with pytest.raises(KindInfraError, match=r"pulling redis:7: exit code 1"):
            machine.make()

        assert (machine.snapshots.stored, machine.provider.clusters) == ({}, {})

    def test_a_cluster_that_is_never_restored_is_not_made(self, machine: Machine) -> None:
        text = DECLARATION.replace("[services.web]", '[services.web]\nbefore = "nodes"')
        (machine.folder / "kindinfra.toml").write_text(text)

        with pytest.raises(KindInfraError) as caught:
            machine.make()

        assert str(caught.value) == (
            "clusters of this declaration never boot from a snapshot: "
            'a service has before = "nodes"'
        )
        assert machine.provider.configs == {}

    def test_where_snapshots_are_off_none_is_made(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("KINDINFRA_SNAPSHOT", "off")

        with pytest.raises(KindInfraError) as caught:
            machine.make()

        assert str(caught.value) == (
            'environment KINDINFRA_SNAPSHOT: snapshot = "off", so no run would use it\n'
            'To fix: snapshot = "auto"'
        )

    def test_an_unknown_service_is_refused_before_anything_is_done(self, machine: Machine) -> None:
        with pytest.raises(DeclarationError, match="wep"):
            make_snapshot(["wep"], save=None, progress=lambda _phase, _ended: None)

        assert (machine.provider.configs, machine.engine.builds) == ({}, [])


class TestPush:
    def test_it_goes_under_the_name_in_the_registry_which_the_engine_forgets(
        self, machine: Machine
    ) -> None:
        stored = machine.make()

        done = push_snapshot(REMOTE, say=machine.said.append)

        assert machine.engine.pushed == [REMOTE]
        assert REMOTE not in machine.engine.images
        assert stored.reference in machine.engine.images
        assert (done.reference, done.remote) == (stored.reference, REMOTE)

    def test_what_is_in_it_is_said_before_it_is_sent(self, machine: Machine) -> None:
        machine.make()
        before: list[str] = []

        def note(_name: str) -> str:
            before.extend(machine.said)
            return ""

        machine.engine.on_push = note

        done = push_snapshot(REMOTE, say=machine.said.append)

        warning, images = before
        assert warning == (
            f"warning: all users who can read {REMOTE} get the keys of the cluster's certificate "
            "authority and can act as administrator of each cluster that comes from this "
            "snapshot; push it to a private registry only"
        )
        assert images == f"images in it: {', '.join(done.images)}"

    def test_one_with_credentials_stays_here(
        self, machine: Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example")
        stored = machine.make()

        with pytest.raises(KindInfraError) as caught:
            push_snapshot(REMOTE, say=machine.said.append)

        assert str(caught.value) == (
            f'snapshot "{stored.reference}" holds credentials, and is not pushed: HTTPS_PROXY\n'
            "To fix: remove them from the environment or the kind config, then kindinfra snapshot "
            "make"
        )
        assert machine.engine.pushed == []
        assert "secret" not in json.dumps(stored.notes and stored.notes.parts)

    def test_without_one_the_command_that_makes_it_is_named(self, machine: Machine) -> None:
        with pytest.raises(KindInfraError) as caught:
            push_snapshot(REMOTE, say=machine.said.append)

        assert "there is no snapshot " in str(caught.value)
        assert str(caught.value).endswith("To fix: kindinfra snapshot make")

    def test_the_name_is_forgotten_if_the_registry_refuses(self, machine: Machine) -> None:
        def refuse(name: str) -> str:
            raise CommandError(["docker"], exit_code=1, output="denied", what=f"pushing {name}")

        machine.make()
        machine.engine.on_push = refuse

        with pytest.raises(CommandError, match="denied"):
            push_snapshot(REMOTE, say=machine.said.append)

        assert REMOTE not in machine.engine.images

    @pytest.mark.parametrize("name", ["", "Not A Name", f"{REMOTE}@sha256:{'0' * 64}"])
    def test_a_name_that_no_registry_takes_is_refused(self, machine: Machine, name: str) -> None:
        with pytest.raises(KindInfraError, match="is not a valid image name"):
            push_snapshot(name, say=machine.said.append)


class TestPull:
    def test_it_gets_the_name_by_which_runs_look_for_it(self, machine: Machine) -> None:
        offered = machine.leave_to_the_registry()

        done = pull_snapshot(REMOTE)

        assert done.reference == offered.reference
        assert machine.engine.images[offered.reference] == f"sha256:{REMOTE}"
        assert machine.engine.removed == [REMOTE]
        assert done.line.startswith(f"pulled {offered.reference} from {REMOTE}  1 MB in ")

    @pytest.mark.parametrize(
        ("part", "value", "why"),
        [
            ("kind", "0.1.0", "its kind is 0.1.0, and here it is 0.31.0"),
            (
                "engine",
                "aarch64 cgroup2 overlay2",
                "its engine is aarch64 cgroup2 overlay2, and here it is x86_64 cgroup2 overlay2",
            ),
            (
                "node image",
                "kindest/node:v1",
                "its node image is kindest/node:v1, and here it is kindest/node:v1.34.4",
            ),
        ],
    )
    def test_one_that_does_not_fit_is_refused_with_the_reason(
        self, machine: Machine, part: str, value: str, why: str
    ) -> None:
        offered = machine.leave_to_the_registry()
        assert offered.notes is not None
        parts = {**offered.notes.parts, part: value}
        machine.offered = replace(offered, notes=replace(offered.notes, parts=parts))

        with pytest.raises(KindInfraError) as caught:
            pull_snapshot(REMOTE)

        assert str(caught.value) == (
            f'snapshot "{REMOTE}" does not fit and is not used: {why}\n'
            "To fix: kindinfra snapshot make, and kindinfra snapshot push"
        )
        assert offered.reference not in machine.engine.images
        assert machine.engine.removed == [REMOTE]

    def test_one_of_another_node_image_of_that_name_is_refused(self, machine: Machine) -> None:
        machine.leave_to_the_registry()
        machine.snapshots.ids["kindest/node:v1"] = "sha256:other"

        with pytest.raises(KindInfraError, match="is another one by now"):
            pull_snapshot(REMOTE)

    def test_an_image_that_is_no_snapshot_is_refused_and_stays_where_it_was(
        self, machine: Machine
    ) -> None:
        offered = machine.leave_to_the_registry()
        machine.offered = replace(offered, notes=None)
        machine.snapshots.ids[REMOTE] = "sha256:before"

        with pytest.raises(KindInfraError, match="it does not say how it was made"):
            pull_snapshot(REMOTE)

        assert machine.engine.removed == []

    def test_one_that_is_too_old_is_refused(self, machine: Machine) -> None:
        offered = machine.leave_to_the_registry()
        assert offered.notes is not None
        old = replace(offered.notes, made=now() - 30 * 86400)
        machine.offered = replace(offered, notes=old)

        with pytest.raises(KindInfraError, match="it is 30 days old"):
            pull_snapshot(REMOTE)


def test_a_snapshot_that_knows_less_than_this_version_does_not_fit(machine: Machine) -> None:
    stored = machine.make()
    assert stored.notes is not None
    parts = {**stored.notes.parts, "further": "1"}

    why = misfit(stored, parts=parts, now=now(), image_id=lambda _name: None)

    assert why == "its further is unknown, and here it is 1"


@pytest.mark.parametrize(
    ("config", "environ", "found"),
    [
        ({}, {}, ()),
        ({}, {"HTTP_PROXY": "http://proxy:3128", "TOKEN": "a@b"}, ()),
        ({}, {"https_proxy": "http://me:pw@proxy:3128"}, ("https_proxy",)),
        (
            {"containerdConfigPatches": ['[plugins."x".registry.configs."r".auth]\npassword="p"']},
            {},
            ("containerdConfigPatches of the kind config",),
        ),
        ({"containerdConfigPatches": ['[plugins."x".registry]\nconfig_path = "/certs"']}, {}, ()),
    ],
)
def test_credentials_that_kind_puts_into_a_kind_node_are_named(
    config: dict[str, Any], environ: dict[str, str], found: tuple[str, ...]
) -> None:
    assert credentials_for(config, environ) == found


def test_a_mistyped_name_in_a_registry_is_refused_before_any_work() -> None:
    wrong = "is not a valid image name; use a name such as registry.example/ci:shop"

    with pytest.raises(KindInfraError, match=f'^"ci shop" {wrong}$'):
        pull_snapshot("ci shop")
    with pytest.raises(KindInfraError, match=f'^"ci@sha256:0" {wrong}$'):
        push_snapshot("ci@sha256:0", say=print)

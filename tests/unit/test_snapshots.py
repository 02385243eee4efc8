"""Clusters that boot from a snapshot: which one fits, what goes wrong, what is left."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest
import yaml
from docker.errors import APIError

from pytest_kindinfra.clusters.config import kind_config
from pytest_kindinfra.clusters.restore import SnapshotBoot
from pytest_kindinfra.clusters.snapshot import (
    kubeconfig_of,
    made_of,
    node_container,
    own_mounts,
    snapshot_config,
    snapshot_key,
    why_never,
)
from pytest_kindinfra.commands.snapshots import list_snapshots, remove_snapshots
from pytest_kindinfra.context import Context, FirstFailure, Hooks, Request
from pytest_kindinfra.engines.nodescripts import LINKS, scripts
from pytest_kindinfra.engines.snapshots import _archive, _config_of, _remove_helper
from pytest_kindinfra.errors import EngineError
from pytest_kindinfra.model import Declaration, Plan, Service
from pytest_kindinfra.protocols.snapshots import NodeContainer
from pytest_kindinfra.state.clusterrecords import SnapshotUsed
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import locked_alone
from pytest_kindinfra.system.timeline import now
from tests.fake_kubernetes import FakeKubernetes
from tests.fakes import FakeProvider, FakeSnapshots, fake_tools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import Cluster

DAY = 86400.0


def request_of(folder: Path, **fields: Any) -> Request:
    given: dict[str, Any] = {
        "cluster": "shop",
        "run_id": "run",
        "namespace": "default",
        "build_jobs": 1,
        "timeout": 20.0,
        "kind_config": None,
        "node_image": "kindest/node:v1",
        "tuning": True,
        "folder": folder,
        "cache": folder / "cache",
        "snapshot": "auto",
    }
    return Request(**(given | fields))


def key_of(request: Request, **fields: Any) -> str:
    given: dict[str, Any] = {"provider": "0.33.0", "engine": "x", "tuning": True, "environ": {}}
    return snapshot_key(made_of(snapshot_config(request), **(given | fields)))


class TestTheKey:
    @pytest.mark.parametrize(
        "config",
        [
            {"name": "other"},
            {"networking": {"apiServerPort": 6444, "apiServerAddress": "127.0.0.2"}},
            {"nodes": [{"extraPortMappings": [{"containerPort": 80, "hostPort": 8080}]}]},
        ],
    )
    def test_host_ports_and_names_make_no_difference(
        self, tmp_path: Path, config: dict[str, Any]
    ) -> None:
        plain = request_of(tmp_path, kind_config={"networking": {}})

        assert key_of(request_of(tmp_path, kind_config={"networking": {}, **config})) == key_of(
            plain
        )

    @pytest.mark.parametrize(
        "fields",
        [
            {"kind_config": {"featureGates": {"ImageVolume": True}}},
            {"kind_config": {"networking": {"podSubnet": "10.9.0.0/16"}}},
            {
                "kind_config": {
                    "nodes": [{"extraMounts": [{"hostPath": "a", "containerPath": "b"}]}]
                }
            },
            {"node_image": "kindest/node:v2"},
            {"node_image": None},
        ],
    )
    def test_what_kind_puts_into_a_kind_node_does(
        self, tmp_path: Path, fields: dict[str, Any]
    ) -> None:
        assert key_of(request_of(tmp_path, **fields)) != key_of(request_of(tmp_path))

    @pytest.mark.parametrize(
        "fields",
        [
            {"provider": "0.34.0"},
            {"engine": "y"},
            {"tuning": False},
            {"environ": {"https_proxy": "http://proxy"}},
            {"environ": {"KIND_EXPERIMENTAL_DOCKER_NETWORK": "mine"}},
        ],
    )
    def test_programs_and_what_they_pass_on_do_too(
        self, tmp_path: Path, fields: dict[str, Any]
    ) -> None:
        request = request_of(tmp_path)

        assert key_of(request, **fields) != key_of(request)

    def test_other_variables_do_not(self, tmp_path: Path) -> None:
        request = request_of(tmp_path)

        assert key_of(request, environ={"HOME": "/home/me"}) == key_of(request)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, ""),
        ({"nodes": [{}, {"role": "worker"}]}, "it has several kind nodes"),
        ({"networking": {"ipFamily": "dual"}}, "it does not use IPv4 alone"),
        ({"networking": {"disableDefaultCNI": True}}, "its nodes need a service to get Ready"),
        (
            {"nodes": [{"extraMounts": [{"hostPath": "x", "containerPath": "/var/lib/etcd"}]}]},
            "extraMounts of its kind config are in /var, /etc, /kind",
        ),
        ({"nodes": [{"extraMounts": [{"hostPath": "x", "containerPath": "/data"}]}]}, ""),
    ],
)
def test_some_clusters_are_never_restored(tmp_path: Path, config: dict[str, Any], why: str) -> None:
    assert why_never(snapshot_config(request_of(tmp_path, kind_config=config))) == why


class TestTheContainer:
    CONFIG: ClassVar[dict[str, Any]] = {
        "networking": {"apiServerAddress": "127.0.0.2"},
        "nodes": [
            {
                "extraMounts": [
                    {"hostPath": "/a", "containerPath": "/data"},
                    {"hostPath": "/b", "containerPath": "/ro", "readOnly": True},
                    {
                        "hostPath": "/c",
                        "containerPath": "/shared",
                        "selinuxRelabel": True,
                        "propagation": "Bidirectional",
                    },
                ],
                "extraPortMappings": [
                    {"containerPort": 80, "hostPort": 8080, "listenAddress": "127.0.0.1"},
                    {"containerPort": 53, "protocol": "UDP"},
                ],
            }
        ],
    }  # fmt: skip

    def test_has_the_mounts_and_ports_of_its_own_run(self) -> None:
        made = node_container("shop", self.CONFIG, choose_port=lambda _address: 4321)

        assert made == NodeContainer(
            name="shop-control-plane",
            cluster="shop",
            binds=("/a:/data", "/b:/ro:ro", "/c:/shared:Z,rshared"),
            ports={
                "6443/tcp": ("127.0.0.2", 4321),
                "80/tcp": ("127.0.0.1", 8080),
                "53/udp": ("", 0),
            },
        )
        assert own_mounts(self.CONFIG) == {"/data", "/ro", "/shared"}

    def test_is_made_like_the_first_one_but_for_these(self) -> None:
        template = {
            "config": {"Hostname": "first-control-plane", "Tty": True},
            "labels": {"io.x-k8s.kind.role": "control-plane", "io.x-k8s.kind.cluster": "first"},
            "host": {"Privileged": True},
            "binds": ["/lib/modules:/lib/modules:ro"],
            "network": "kind",
        }
        ports = {"6443/tcp": ("127.0.0.1", 4321), "53/udp": ("", 0)}
        node = NodeContainer(name="n", cluster="shop", binds=("/a:/data",), ports=ports)

        assert _config_of(template, node, "sha256:1") == {
            "Hostname": "first-control-plane",
            "Tty": True,
            "Image": "sha256:1",
            "Labels": {"io.x-k8s.kind.role": "control-plane", "io.x-k8s.kind.cluster": "shop"},
            "Volumes": {"/var": {}},
            "ExposedPorts": {"6443/tcp": {}, "53/udp": {}},
            "HostConfig": {
                "Privileged": True,
                "Binds": ["/lib/modules:/lib/modules:ro", "/a:/data"],
                "PortBindings": {
                    "6443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4321"}],
                    "53/udp": [{"HostIp": "", "HostPort": ""}],
                },
            },
            "NetworkingConfig": {"EndpointsConfig": {"kind": {}}},
        }

    def test_starts_with_a_script_that_calls_the_entrypoint_of_the_node_image(self) -> None:
        files = scripts("/usr/local/bin/entrypoint")

        with tarfile.open(fileobj=io.BytesIO(_archive(files, LINKS))) as archive:
            entry = archive.extractfile("kindinfra-snapshot/entrypoint")
            assert entry is not None
            assert entry.read().decode().endswith('exec /usr/local/bin/entrypoint "$@"\n')
            wanted = "etc/systemd/system/multi-user.target.wants"
            assert {one.name: one.linkname for one in archive if one.issym()} == {
                f"{wanted}/kindinfra-lead.service": "../kindinfra-lead.service",
                f"{wanted}/kindinfra-layers.service": "../kindinfra-layers.service",
            }
            units = {one.name for one in archive if one.name.endswith(".service") and one.isfile()}
            assert units == {
                f"etc/systemd/system/kindinfra-{name}.service" for name in ("lead", "layers")
            }


def test_the_kubeconfig_is_named_as_kinds_own(tmp_path: Path) -> None:
    with FakeKubernetes() as kubernetes:
        admin = kubernetes.write_kubeconfig(tmp_path / "admin").read_bytes()

    made = yaml.safe_load(kubeconfig_of(admin, name="shop", host="127.0.0.1", port=4321))

    assert made["current-context"] == "kind-shop"
    assert made["clusters"] == [
        {"name": "kind-shop", "cluster": {"server": "http://127.0.0.1:4321"}}
    ]
    assert made["contexts"] == [
        {"name": "kind-shop", "context": {"cluster": "kind-shop", "user": "kind-shop"}}
    ]
    assert made["users"][0]["name"] == "kind-shop"


class Bench:
    """Runs on one machine, one after the other."""

    def __init__(self, folder: Path, kubernetes: FakeKubernetes) -> None:
        self.folder = folder
        self.kubernetes = kubernetes
        self.provider = FakeProvider()
        self.snapshots = FakeSnapshots(self.provider)
        self.snapshots.admin = kubernetes.write_kubeconfig(folder / "admin").read_bytes()
        self.booted: list[str] = []
        self.provider.on_create = lambda name, _kubeconfig: self.booted.append(name)
        self.said: list[str] = []
        self.begun: list[int] = []

    def run(self, cluster: str, **fields: Any) -> Context:
        run = RunDirectory(self.folder / cluster)
        run.make()
        port = int(self.kubernetes.url.rpartition(":")[2])
        config = {"networking": {"apiServerAddress": "127.0.0.1", "apiServerPort": port}}
        cancelled = threading.Event()
        services = fields.pop("services", ())
        return Context(
            plan=Plan(declaration=Declaration(folder=self.folder), services=services),
            request=request_of(
                self.folder, **{"cluster": cluster, "kind_config": config, **fields}
            ),
            tools=fake_tools(self.provider, snapshots=self.snapshots),
            run=run,
            hooks=Hooks(say=self.said.append),
            cancelled=cancelled,
            failure=FirstFailure(cancelled, fast=False),
        )

    def create(self, context: Context) -> tuple[SnapshotBoot, Cluster]:
        boot = SnapshotBoot(context, "0.33.0")
        return boot, boot.create(context.run, self.begun.append)

    def leave(self, cluster: str) -> None:
        """Have a run leave a snapshot."""
        context = self.run(cluster)
        boot, made = self.create(context)
        assert boot.leaves
        boot.leave(made)
        for keeper in context.watchers:
            keeper.join()
        self.provider.clusters.clear()

    def renew_lease(self, at: str = "2099-01-01T00:00:00.000000Z") -> None:
        """Have the kubelet of the kind node say that it lives."""
        self.kubernetes.put(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "node", "namespace": "kube-node-lease"},
                "spec": {"renewTime": at},
            }
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakeKubernetes() as kubernetes:
        yield Bench(tmp_path, kubernetes)


def test_the_first_run_boots_and_leaves_what_the_second_restores(bench: Bench) -> None:
    bench.leave("first")
    bench.renew_lease()
    context = bench.run("second")

    boot, cluster = bench.create(context)

    assert bench.booted == ["first"]
    assert not boot.leaves
    assert cluster.nodes == ("second-control-plane",)
    (used,) = bench.snapshots.stored.values()
    noted = context.run.read(SnapshotUsed)
    assert noted is not None
    assert (noted.reference, noted.id) == (used.reference, used.id)
    assert [phase.kind for phase in context.tools.timeline.phases] == ["restore"]
    assert bench.said == []


@pytest.mark.parametrize(
    "fields",
    [
        {"snapshot": "off"},
        {"cache": None},
        {"kind_config": {"nodes": [{}, {"role": "worker"}]}},
        {"services": (Service(name="cni", before="nodes"),)},
    ],
)
def test_a_run_that_wants_none_or_can_have_none_leaves_none(
    bench: Bench, fields: dict[str, Any]
) -> None:
    boot, _ = bench.create(bench.run("first", **fields))

    assert (boot.leaves, bench.booted, bench.said) == (False, ["first"], [])


def test_an_engine_that_does_not_answer_is_no_reason_to_fail(bench: Bench) -> None:
    bench.snapshots.silent = True

    boot, _ = bench.create(bench.run("first"))

    assert (boot.leaves, bench.booted) == (False, ["first"])
    assert bench.said == ['cluster "first" boots without a snapshot: the Docker engine: no answer']


def test_a_snapshot_of_another_node_image_of_that_name_is_left_alone(bench: Bench) -> None:
    bench.leave("first")
    bench.snapshots.ids["kindest/node:v1"] = "sha256:2"
    (stored,) = bench.snapshots.stored

    boot, _ = bench.create(bench.run("second"))

    assert (boot.leaves, bench.booted) == (True, ["first", "second"])
    why = "node image kindest/node:v1 is another one by now"
    assert bench.said == [f'cluster "second" boots without the snapshot {stored}: {why}']


def test_a_snapshot_that_is_too_old_is_left_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.leave("first")
    (stored,) = bench.snapshots.stored
    later = now() + 40 * DAY
    monkeypatch.setattr("pytest_kindinfra.clusters.restore.now", lambda: later)

    bench.create(bench.run("second"))

    assert bench.booted == ["first", "second"]
    assert bench.said == [
        f'cluster "second" boots without the snapshot {stored}: it is 40 days old'
    ]


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("no such image", "the Docker engine: no such image"),
        ("ended", "the Docker engine: the container is not running"),
    ],
)
def test_a_snapshot_that_cannot_be_restored_is_removed_and_the_cluster_is_booted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, why: str, said: str
) -> None:
    bench.leave("first")
    bench.renew_lease()
    (stored,) = bench.snapshots.stored

    def fail(*_: object) -> Any:
        raise EngineError(said)

    if why == "ended":
        monkeypatch.setattr(bench.snapshots, "run_in", fail)
    else:
        bench.snapshots.on_restore = fail
    context = bench.run("second")

    boot, cluster = bench.create(context)

    assert bench.booted == ["first", "second"]
    assert bench.snapshots.stored == {}
    assert boot.leaves
    assert cluster.nodes == ("second-control-plane",)
    assert context.tools.own.generation == 1  # what was loaded went into the first kind node
    assert context.run.read(SnapshotUsed) is None
    (line,) = bench.said
    assert line == (
        f'cluster "second" could not be restored from the snapshot {stored}, and is booted: '
        f"{said}\nTo fix: nothing; --kindinfra-snapshot=off uses none"
    )


def test_what_a_restored_api_server_remembers_does_not_count_as_ready(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.leave("first")
    bench.renew_lease(at="2020-01-01T00:00:00.000000Z")
    monkeypatch.setattr("pytest_kindinfra.clusters.restore._READY_WITHIN", 0.5)

    bench.create(bench.run("second"))

    assert bench.booted == ["first", "second"]
    assert "its kubelet did not renew its lease within 0.5 s" in bench.said[0]


def test_the_dns_service_is_asked_until_it_answers(bench: Bench) -> None:
    bench.leave("first")
    bench.renew_lease()
    bench.snapshots.answers = [(1, "no answer"), (1, "no answer")]

    bench.create(bench.run("second"))

    assert (bench.snapshots.answers, bench.booted) == ([], ["first"])


def test_what_will_never_be_there_is_not_asked_for_again(bench: Bench) -> None:
    """A full disk was asked about without a pause for two minutes."""
    bench.leave("first")
    bench.renew_lease()
    bench.snapshots.answers = [(2, "the layers are not unpacked"), (0, "")]

    bench.create(bench.run("second"))

    assert bench.booted == ["first", "second"]
    assert "is booted: the layers are not unpacked\n" in bench.said[0]


def test_a_kind_node_that_cannot_be_copied_stops_nothing(bench: Bench) -> None:
    def fail(_: str) -> None:
        msg = "the Docker engine: no space left on device"
        raise EngineError(msg)

    bench.snapshots.on_pack = fail

    bench.leave("first")

    assert bench.snapshots.stored == {}
    assert bench.said == [
        'cluster "first" leaves no snapshot: the Docker engine: no space left on device'
    ]


def test_of_two_runs_at_once_one_leaves_the_snapshot(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    with locked_alone(tmp_path / "cache" / "snapshots.lock") as alone:
        assert alone
        bench.leave("second")

    assert (bench.snapshots.packed, bench.snapshots.stored, bench.said) == ([], {}, [])


def test_what_a_killed_run_left_of_a_copy_is_removed_by_the_next(bench: Bench) -> None:
    bench.snapshots.unfinished = ["of a killed run"]

    bench.leave("first")

    assert bench.snapshots.unfinished == []


class TestTheCommands:
    def test_list_says_how_large_and_how_old_they_are(self, bench: Bench) -> None:
        bench.leave("first")
        (stored,) = bench.snapshots.stored

        (listed,) = list_snapshots(bench.snapshots)

        assert listed.line == f"{stored}  1 MB  0 days old  of kindest/node:v1"
        assert json.loads(json.dumps(listed.record))["bytes"] == 1_000_000

    def test_remove_leaves_those_that_clusters_use(self, bench: Bench) -> None:
        bench.leave("first")
        (stored,) = bench.snapshots.stored.values()
        bench.snapshots.ids["in use"] = stored.id

        done = remove_snapshots(bench.snapshots)

        assert done.lines == [
            f"left alone: snapshot {stored.reference}: the Docker engine: a container uses it"
        ]

    def test_gc_removes_only_those_that_no_run_uses_any_more(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench.leave("first")
        (stored,) = bench.snapshots.stored

        assert remove_snapshots(bench.snapshots, useless_only=True).lines == []
        later = now() + 40 * DAY
        monkeypatch.setattr("pytest_kindinfra.commands.snapshots.now", lambda: later)
        done = remove_snapshots(bench.snapshots, useless_only=True)

        assert done.lines == [f"removed snapshot {stored}"]


def test_the_config_of_a_run_is_what_its_container_is_made_from(tmp_path: Path) -> None:
    config = kind_config(
        None, ports={30000: 4000}, node_image=None, tuning=True, folder=tmp_path, run=tmp_path
    )

    made = node_container("shop", config, choose_port=lambda _address: 4321)

    assert made.binds == (
        f"{tmp_path}:/kindinfra:ro",
        f"{tmp_path}/kubeadm:/kindinfra-kubeadm:ro",
    )
    assert made.ports["30000/tcp"] == ("127.0.0.1", 4000)


class StubEngine:
    """Has one container that was to become a snapshot, and the volume that it read."""

    def __init__(self, *, node_is_there: bool) -> None:
        self.node_is_there = node_is_there
        self.removed: list[str] = []

    def inspect_container(self, container: str) -> dict[str, Any]:
        return {"Id": container, "Mounts": [mount("volume", "/mnt"), mount("bind", "/mnt")]}

    def remove_container(self, container: str, *, v: bool, force: bool) -> None:
        assert v
        assert force
        self.removed.append(container)

    def remove_volume(self, name: str) -> None:
        if self.node_is_there:
            msg = "volume is in use"
            raise APIError(msg)
        self.removed.append(name)


def mount(kind: str, path: str) -> dict[str, str]:
    return {"Type": kind, "Name": f"the {kind}", "Destination": path}


@pytest.mark.parametrize("node_is_there", [True, False])
def test_the_volume_of_a_kind_node_that_went_first_goes_with_the_copy(
    *, node_is_there: bool
) -> None:
    """It stayed for ever: `kind delete` cannot remove a volume that another container reads."""
    engine = StubEngine(node_is_there=node_is_there)

    _remove_helper(cast("Any", engine), "copy")

    assert engine.removed == (["copy"] if node_is_there else ["copy", "the volume"])

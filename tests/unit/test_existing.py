"""What is found out about an existing cluster before the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.clusters.existing import Existing, find_existing
from pytest_kindinfra.context import ExistingCluster
from pytest_kindinfra.errors import KindInfraError, ToolMissingError
from pytest_kindinfra.system.timeline import Deadline
from tests.fake_kubernetes import FakeKubernetes
from tests.fakes import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pytest_kindinfra.protocols.cluster import Provider

NODE = "fake-control-plane"


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        say_who(server, NODE, "f00")
        yield server


def say_who(server: FakeKubernetes, node: str, machine: str) -> None:
    info = {"nodeInfo": {"machineID": machine}}
    server.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "status": info})


def look(server: FakeKubernetes, folder: Path, provider: FakeProvider) -> ExistingCluster:
    kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
    return find_existing(kubeconfig, provider, provider, Deadline.after(10))


def test_a_kind_cluster_of_this_host_is_known_by_what_its_kind_nodes_say(
    kubernetes: FakeKubernetes, tmp_path: Path
) -> None:
    say_who(kubernetes, "fake-worker2", "ba4")
    provider = FakeProvider(
        clusters={"fake": ("fake-worker2", NODE)},
        machine_ids={NODE: "f00", "fake-worker2": "ba4"},
    )

    found = look(kubernetes, tmp_path, provider)

    assert (found.name, set(found.nodes)) == ("fake", {NODE, "fake-worker2"})


@pytest.mark.parametrize(
    "provider",
    [
        FakeProvider(),
        FakeProvider(clusters={"fake": (NODE, "fake-worker")}, machine_ids={NODE: "f00"}),
        FakeProvider(clusters={"fake": (NODE,)}, machine_ids={NODE: "another laptop's"}),
        FakeProvider(
            clusters={"fake": (NODE,)},
            machine_ids={NODE: "f00"},
            version=ToolMissingError("no kind"),
        ),
    ],
    ids=["no such cluster", "other nodes", "other machine", "no kind here"],
)
def test_any_other_cluster_is_known_by_its_context_and_has_no_kind_nodes(
    kubernetes: FakeKubernetes, tmp_path: Path, provider: FakeProvider
) -> None:
    found = look(kubernetes, tmp_path, provider)

    assert found == ExistingCluster(kubeconfig=tmp_path / "kubeconfig", name="fake", nodes=())


def test_who_may_not_read_nodes_has_no_kind_cluster(
    kubernetes: FakeKubernetes, tmp_path: Path
) -> None:
    kubernetes.fail("GET", "/api/v1/nodes", 403, "forbidden")
    provider = FakeProvider(clusters={"fake": (NODE,)}, machine_ids={NODE: "f00"})

    assert look(kubernetes, tmp_path, provider).nodes == ()


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with FakeKubernetes() as gone:
        kubeconfig = gone.write_kubeconfig(tmp_path / "kubeconfig")

    with pytest.raises(KindInfraError, match="no answer from the API server to GET /api/v1/nodes"):
        find_existing(kubeconfig, FakeProvider(), FakeProvider(), Deadline.after(10))


def test_a_file_that_is_no_kubeconfig_is_told(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("kind: List\n")

    with pytest.raises(KindInfraError, match="it is no kubeconfig"):
        find_existing(tmp_path / "kubeconfig", FakeProvider(), FakeProvider(), Deadline.after(10))


class FakeObjects:
    """The objects of one run, which can be removed."""

    def __init__(self) -> None:
        self.removed: list[Path] = []

    def remove(self, kubeconfig: Path, deadline: Deadline) -> None:
        deadline.check()
        self.removed.append(kubeconfig)

    def remove_command(self) -> Sequence[str]:
        return ("remove", "objects")


class TestExisting:
    """The provider of a run in an existing cluster."""

    def test_it_removes_the_objects_of_the_run_and_keeps_the_cluster(self, tmp_path: Path) -> None:
        kind, objects = FakeProvider(clusters={"k": (NODE,)}), FakeObjects()
        existing: Provider = Existing(kind, objects, (NODE,))

        existing.delete("k", kubeconfig=tmp_path / "k", deadline=Deadline.after(60))

        assert (list(kind.clusters), objects.removed) == (["k"], [tmp_path / "k"])
        assert existing.exists("k", Deadline.after(60))
        assert existing.delete_command("k") == ("remove", "objects")

    def test_without_kind_nodes_of_this_host_kind_is_not_asked(self, tmp_path: Path) -> None:
        kind = FakeProvider(version=ToolMissingError("no kind"))
        existing = Existing(kind, FakeObjects(), ())
        soon = Deadline.after(60)

        assert (existing.check(soon), existing.nodes("k", soon)) == ("", ())
        assert existing.image_ready_nodes("k", soon) == ()
        existing.export_logs("k", tmp_path / "logs", soon)
        assert not (tmp_path / "logs").exists()

    def test_with_kind_nodes_kind_is_asked_for_them(self, tmp_path: Path) -> None:
        kind = FakeProvider(clusters={"k": (NODE, "fake-worker")}, silent={"fake-worker"})
        existing = Existing(kind, FakeObjects(), (NODE, "fake-worker"))
        soon = Deadline.after(60)

        assert existing.check(soon) == kind.version
        assert existing.image_ready_nodes("k", soon) == (NODE,)
        existing.export_logs("k", tmp_path / "logs", soon)
        assert (tmp_path / "logs" / "name").read_text() == "k"

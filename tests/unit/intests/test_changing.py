"""What tests change is noted before, done when all is whole again, and undone; on a fake API."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import KindInfraError, NotReadyError
from pytest_kindinfra.intests.changes import Changes
from pytest_kindinfra.intests.stack import Stack
from pytest_kindinfra.kube import routes
from pytest_kindinfra.model import RUN_LABEL, TEST_LABEL, BuiltImage
from pytest_kindinfra.state.records import (
    Change,
    DeployedService,
    ImageReady,
    PlanMade,
    ServiceReady,
)
from pytest_kindinfra.system.timeline import Deadline

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.state.directory import RunDirectory
    from tests.fake_kubernetes import FakeKubernetes

WEB = "/apis/apps/v1/namespaces/default/deployments/web"
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"a": "b"}}


@pytest.fixture(autouse=True)
def no_pause_for_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_BETWEEN_SYNCS", 0.05)


def left_behind() -> dict[str, Any]:
    labels = {TEST_LABEL: "0123456789abcdef", RUN_LABEL: "run-0"}
    return {**MAP, "metadata": {"name": "own", "labels": labels}, "data": {"a": "old"}}


def uids(fake: FakeKubernetes) -> set[str]:
    return {pod["metadata"]["uid"] for pod in fake.pods_of("web")}


def replicas(fake: FakeKubernetes) -> int:
    return int(fake.objects[WEB]["spec"]["replicas"])


def job(name: str = "count", **metadata: Any) -> dict[str, Any]:
    containers = [{"name": "main", "image": "web", "args": ["${image:web}"]}]
    template = {"spec": {"restartPolicy": "Never", "containers": containers}}
    spec = {"backoffLimit": 0, "template": template}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


class TestServices:
    def test_a_restart_replaces_the_pods(self, stack: Stack, fake: FakeKubernetes) -> None:
        before = uids(fake)
        stack.restart("web")

        assert before.isdisjoint(uids(fake))
        assert len(uids(fake)) == 1

    def test_scaling_returns_when_the_pods_are_ready(
        self, stack: Stack, fake: FakeKubernetes
    ) -> None:
        stack.scale("web", 3)

        ready = [pod["status"]["conditions"][0]["status"] for pod in fake.pods_of("web")]
        assert ready == ["True"] * 3

    def test_scaling_to_nothing_returns_when_no_pod_is_left(
        self, stack: Stack, fake: FakeKubernetes
    ) -> None:
        stack.scale("web", 0)

        assert uids(fake) == set()

    def test_scaling_is_undone(self, stack: Stack, fake: FakeKubernetes) -> None:
        stack.scale("web", 3)
        stack.scale("web", 2)
        stack.undo_own()

        assert replicas(fake) == 1
        assert len(uids(fake)) == 1

    def test_what_is_undone_is_not_undone_again(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        stack.scale("web", 2)
        stack.undo_own()
        count = len(fake.requests)
        stack.undo_own()

        assert len(fake.requests) == count
        assert run.names(Change) == []

    def test_a_change_is_noted_before_it_is_made(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        fake.fail("PATCH", "/deployments/web", 500, "no", times=9)
        with pytest.raises(KindInfraError):
            stack.scale("web", 2)

        (name,) = run.names(Change)
        noted = run.read(Change, name)
        assert noted
        assert (noted.kind, noted.data) == ("scaled", {"path": WEB, "replicas": 1})

    def test_outside_a_test_nothing_is_undone(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        with_hook = Stack(run, waits=False)
        with_hook.scale("web", 2)
        with_hook.undo_own()
        with_hook.close()

        assert replicas(fake) == 2
        stack.close()

    def test_a_service_without_workloads_says_what_it_has(
        self, stack: Stack, run: RunDirectory
    ) -> None:
        record = run.read(DeployedService, "web")
        assert record
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
        run.write(replace(record, objects=(config_map,)), "web")

        with pytest.raises(KindInfraError) as caught:
            stack.restart("web")

        assert str(caught.value) == (
            'service "web" has nothing to restart: no DaemonSet, Deployment, Pod, StatefulSet; it '
            'has: "configmap/settings"'
        )

    def test_a_workload_that_is_gone_is_named(self, stack: Stack, fake: FakeKubernetes) -> None:
        fake.delete(WEB)

        with pytest.raises(
            NotReadyError, match='service "web": deployment/web does not exist any more'
        ):
            stack.restart("web")

    def test_a_service_that_is_not_ready_says_so(self, stack: Stack, run: RunDirectory) -> None:
        run.write(PlanMade(services=("web", "late"), engine="docker"))
        run.settle(ServiceReady(endpoints=()), "late")

        with pytest.raises(NotReadyError, match='service "late": not ready yet'):
            stack.restart("late")


class TestObjects:
    def test_they_are_applied_with_labels_and_images(self, stack: Stack) -> None:
        (made,) = stack.apply(job())

        (container,) = made["spec"]["template"]["spec"]["containers"]
        assert container["image"] == "localhost/web:1f"
        assert container["args"] == ["localhost/web:1f"]
        assert container["imagePullPolicy"] == "IfNotPresent"
        assert made["metadata"]["labels"][RUN_LABEL] == "run-1"

    def test_they_are_deleted_in_reverse_order(self, stack: Stack, fake: FakeKubernetes) -> None:
        stack.apply([job("one"), MAP])
        stack.undo_own()

        gone = [path.rpartition("/")[2] for path, _ in fake.deletions]
        assert gone == ["one", "own"]  # a ConfigMap is applied before a Job

    def test_a_file_is_read_from_the_root(self, stack: Stack, tmp_path: Path) -> None:
        (tmp_path / "own.yaml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}")

        (made,) = stack.apply("own.yaml")
        assert made["metadata"]["name"] == "x"

    def test_what_is_there_already_is_not_touched(self, stack: Stack, fake: FakeKubernetes) -> None:
        fake.put({**MAP, "metadata": {"name": "own"}, "data": {"a": "theirs"}})

        with pytest.raises(KindInfraError) as caught:
            stack.apply(MAP)
        stack.undo_own()

        assert str(caught.value) == (
            'ConfigMap "own" in namespace "default" exists already, and was not created by this '
            "test, which would delete it at its end\n"
            "To fix: give it another name, or another namespace (kindinfra_namespace)"
        )
        kept = fake.objects["/api/v1/namespaces/default/configmaps/own"]
        assert kept["data"] == {"a": "theirs"}

    def test_what_a_killed_run_left_in_a_reused_cluster_does_not_block_the_test(
        self, stack: Stack, fake: FakeKubernetes
    ) -> None:
        """It used to, in each later run, until somebody deleted it."""
        fake.put(left_behind())

        stack.apply(MAP)

        made = fake.objects["/api/v1/namespaces/default/configmaps/own"]
        assert made["data"] == {"a": "b"}
        assert made["metadata"]["labels"][RUN_LABEL] == "run-1"

    def test_what_another_run_has_in_a_shared_cluster_is_left_to_people(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory, tmp_path: Path
    ) -> None:
        fake.put(left_behind())

        with (
            closing(stack),
            closing(Stack(run, waits=False, shared=True, folder=tmp_path)) as shared,
            pytest.raises(KindInfraError) as caught,
        ):
            shared.apply(MAP)

        assert str(caught.value) == (
            'ConfigMap "own" in namespace "default" exists already: a test of run run-0 created '
            "it, and still runs or was killed\n"
            "To fix: if that run has ended: kubectl delete configmap own -n default"
        )
        assert fake.deletions == []

    def test_the_same_test_may_apply_an_object_again(
        self, stack: Stack, fake: FakeKubernetes
    ) -> None:
        stack.apply(MAP)
        stack.apply({**MAP, "data": {"a": "c"}})

        assert fake.objects["/api/v1/namespaces/default/configmaps/own"]["data"] == {"a": "c"}

    def test_all_that_is_wrong_is_said_at_once(self, stack: Stack) -> None:
        with pytest.raises(KindInfraError) as caught:
            stack.apply([{"kind": "Pod"}, "missing.yaml"])

        text = str(caught.value)
        assert "an object without \"apiVersion\", \"metadata\": {'kind': 'Pod'}" in text
        assert "missing.yaml: No such file or directory" in text

    def test_an_image_that_is_not_in_the_cluster_is_named(
        self, stack: Stack, run: RunDirectory
    ) -> None:
        built = BuiltImage(name="worker", reference="localhost/worker:2e", cached=False)
        run.write(ImageReady(image=built), "worker")
        wanted = job()
        wanted["spec"]["template"]["spec"]["containers"][0]["image"] = "worker"

        with pytest.raises(KindInfraError) as caught:
            stack.apply(wanted)

        assert str(caught.value) == (
            'Job "count" cannot be applied:\n'
            '  - image "worker": no service that is ready runs the image "worker", so it may not '
            "be in the cluster\n"
            '    To fix: mark the test with a service that has images = ["worker"]'
        )

    def test_a_near_miss_is_asked_about(self, stack: Stack) -> None:
        wanted = job()
        wanted["spec"]["template"]["spec"]["containers"][0]["image"] = "wbe"

        with pytest.raises(
            KindInfraError, match=r'image "wbe": no such image; did you mean "web"\?'
        ):
            stack.apply(wanted)

    def test_a_job_gives_its_log(self, stack: Stack, fake: FakeKubernetes) -> None:
        fake.logs["count"] = "one\ntwo"

        assert stack.run_job(job()) == "one\ntwo\n"

    def test_a_job_is_asked_for(self, stack: Stack) -> None:
        with pytest.raises(KindInfraError, match="there is none among: ConfigMap"):
            stack.run_job(MAP)


class TestKilledProcesses:
    """A process that was killed is one whose lock is free."""

    def test_what_they_scaled_is_undone_by_another(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        killed = Changes(run, "gw1")
        killed._holder = "gw1.0"  # noqa: SLF001 - of another process
        killed.note("scaled", service="web", test="test_a", path=WEB, replicas=4)
        killed.close()

        assert stack.lack_of(frozenset({"web"})) == ""
        assert replicas(fake) == 4
        assert run.names(Change) == []

    def test_what_they_applied_is_deleted(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        stack.apply(MAP)
        (name,) = run.names(Change)
        change = run.read(Change, name)
        assert change
        killed = replace(change, holder="gw1.0")
        run.write(killed, killed.name)
        assert stack.undo_of_dead() == []

        assert "/api/v1/namespaces/default/configmaps/own" not in fake.objects

    def test_what_live_ones_changed_stays(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        alive = Changes(run, "gw1")
        alive._holder = "gw1.0"  # noqa: SLF001 - of another process
        alive.note("scaled", service="web", test="test_a", path=WEB, replicas=4)

        assert stack.lack_of(frozenset({"web"})) == ""
        assert replicas(fake) == 1
        alive.close()

    def test_at_the_end_of_a_run_a_service_that_stays_broken_is_not_waited_for(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        """It used to be, for as long as the service has to get ready: 600 s."""
        record = run.read(DeployedService, "web")
        assert record
        run.write(replace(record, timeout=600), "web")
        fake.ready_after = 600
        killed = Changes(run, "gw1")
        killed._holder = "gw1.0"  # noqa: SLF001 - of another process
        killed.note("scaled", service="web", test="test_a", path=WEB, replicas=4)
        killed.close()
        told: list[str] = []

        (problem,) = stack.undo_of_dead(
            Deadline.after(0.5), tell=lambda change: told.append(f"{change.kind} by {change.test}")
        )

        assert told == ["scaled by test_a"]
        assert replicas(fake) == 4
        assert "could not be undone: not ready within the time limit" in problem

    def test_what_cannot_be_undone_is_said_to_each_test_that_needs_it(
        self, stack: Stack, fake: FakeKubernetes, run: RunDirectory
    ) -> None:
        killed = Changes(run, "gw1")
        killed._holder = "gw1.0"  # noqa: SLF001 - of another process
        killed.note("scaled", service="web", test="test_a", path=WEB, replicas=4)
        killed.close()
        fake.delete(WEB)

        text = stack.lack_of(frozenset({"web"}))
        assert text == (
            'service "web" was not restored: what the test test_a changed (scaled) could not be '
            f'undone: service "web": {WEB} does not exist any more'
        )
        assert stack.lack_of(frozenset({"web"})) == text
        assert stack.lack_of(frozenset({"other"})) == ""

"""A cluster with things of others in it: what is taken, refused, marked and deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.cleanup import (
    LeaseHolder,
    OwnedObjects,
    Scope,
    acquire_lease,
    remove_all,
    remove_command,
    remove_expired,
)
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.cluster import SharedKube, marked
from pytest_kindinfra.kube.expiry import EXPIRES, OWNER_LABEL, NamespaceMarks
from pytest_kindinfra.kube.portforward import Forwards
from pytest_kindinfra.model import RUN_LABEL
from tests.unit.kube.objects import config_map, crd, end_soon, workload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.system.timeline import Deadline
    from tests.fake_kubernetes import FakeKubernetes

RUN = "20261126-1"
CLUSTER_ROLES = "clusterroles.rbac.authorization.k8s.io"


class Places:
    """Where the run has put objects, as the run directory knows it."""

    def __init__(self) -> None:
        self.scope = Scope()

    def add(self, namespace: str, resource: str) -> None:
        self.scope = Scope(
            self.scope.namespaces | ({namespace} - {""}), self.scope.resources | {resource}
        )


@pytest.fixture
def places() -> Places:
    return Places()


@pytest.fixture
def shared(fake: FakeKubernetes, tmp_path: Path, places: Places) -> Iterator[SharedKube]:
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    forwards = Forwards(kubeconfig)
    kube = SharedKube(kubeconfig, RUN, forwards, note=places.add)
    yield kube
    kube.close()
    forwards.close()


def cluster_role(name: str = "reader", **more: Any) -> KubeObject:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [{"verbs": ["get"]}],
        **more,
    }


def namespace(name: str, **labels: str) -> KubeObject:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def only_in_namespaces(method: str, path: str) -> bool:
    """Whether somebody who has rights in namespaces alone may not ask for it."""
    return method == "GET" and "/namespaces/" not in path


class TestApplying:
    def test_what_is_not_there_is_made_with_the_runs_label(
        self, shared: SharedKube, soon: Deadline
    ) -> None:
        made = shared.apply(config_map(mode="shared"), namespace="default", deadline=soon)

        assert made["metadata"]["labels"] == {RUN_LABEL: RUN}

    def test_what_is_ours_is_changed(self, shared: SharedKube, soon: Deadline) -> None:
        shared.apply(config_map(mode="shared"), namespace="default", deadline=soon)

        again = shared.apply(config_map(mode="new"), namespace="default", deadline=soon)

        assert again["data"] == {"mode": "new"}

    def test_what_says_all_that_is_declared_is_taken_and_not_written_to(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        there = fake.put(cluster_role(aggregationRule={"more": "than declared"}))
        version = there["metadata"]["resourceVersion"]

        taken = shared.apply(cluster_role(), namespace="default", deadline=soon)

        assert taken["metadata"]["resourceVersion"] == version
        assert RUN_LABEL not in (taken["metadata"].get("labels") or {})

    def test_what_says_something_else_is_an_error_and_stays(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        fake.put(config_map(mode="theirs"))

        with pytest.raises(KindInfraError) as caught:
            shared.apply(config_map(mode="shared"), namespace="default", deadline=soon)

        assert str(caught.value) == (
            'ConfigMap "settings" in namespace "default" exists in the cluster and is not as '
            "declared: data.mode differs\n"
            "it does not belong to this run, so it is not changed\n"
            "To fix: declare it as it is in the cluster, remove it from the manifests, or use "
            "another namespace for it ([cluster] namespace)"
        )
        (path,) = [path for path in fake.objects if path.endswith("configmaps/settings")]
        assert fake.objects[path]["data"] == {"mode": "theirs"}

    def test_what_an_earlier_run_is_just_deleting_is_waited_for(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        fake.put(marked(config_map(mode="old"), "earlier"))
        end_soon(fake, "configmaps/settings")

        made = shared.apply(config_map(mode="new"), namespace="default", deadline=soon)

        assert made["data"] == {"mode": "new"}
        assert made["metadata"]["labels"] == {RUN_LABEL: RUN}

    def test_what_another_run_made_is_said_to_be_its(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        fake.put(marked(cluster_role(rules=[]), "other"))

        with pytest.raises(KindInfraError, match="it belongs to run other, so it is not changed"):
            shared.apply(cluster_role(), namespace="default", deadline=soon)

    def test_what_cannot_even_be_changed_is_said_with_the_servers_words(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        fake.put(workload())
        fake.fail("PATCH", "deployments/api", 422, "field is immutable")

        with pytest.raises(
            KindInfraError, match="the API server refuses the change: field is immutable"
        ):
            shared.apply(workload(replicas=2), namespace="default", deadline=soon)

    def test_a_namespace_that_is_there_is_taken_whatever_it_says(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        fake.put(namespace("shop", team="theirs"))

        taken = shared.apply(namespace("shop", team="shared"), namespace="", deadline=soon)

        assert taken["metadata"]["labels"] == {"team": "theirs"}

    def test_in_a_namespace_of_ours_everything_is_ours(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        shared.ensure_namespace("mine", soon, {})
        fake.put(
            config_map(mode="of a controller") | {"metadata": {"name": "x", "namespace": "mine"}}
        )

        made = shared.apply(config_map("x", mode="shared"), namespace="mine", deadline=soon)

        assert made["data"] == {"mode": "shared"}

    def test_an_object_of_a_kind_that_is_not_there_yet_is_applied(
        self, shared: SharedKube, soon: Deadline
    ) -> None:
        shared.apply(crd(), namespace="", deadline=soon)
        gadget = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}}

        made = shared.apply(gadget, namespace="default", deadline=soon)

        assert made["metadata"]["labels"] == {RUN_LABEL: RUN}

    def test_claims_of_a_stateful_set_are_marked_since_they_outlive_it(self) -> None:
        claims = [{"metadata": {"name": "data"}, "spec": {}}]
        written = workload("StatefulSet", volumeClaimTemplates=claims)

        made = marked(written, RUN)

        label = {RUN_LABEL: RUN}
        assert made["spec"]["volumeClaimTemplates"] == [
            {"metadata": {"name": "data", "labels": label}, "spec": {}}
        ]
        assert "labels" not in claims[0]["metadata"]


class TestRemoving:
    def test_what_has_the_label_goes_and_nothing_else(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        before = set(fake.objects)
        fake.put(marked(config_map("other"), "another-run"))
        fake.put(config_map("theirs"))
        kept = set(fake.objects)
        shared.ensure_namespace("mine", soon, {})
        for obj in (crd(), cluster_role(), config_map("x"), workload()):
            shared.apply(obj, namespace="default", deadline=soon)
        gadget = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"}}
        shared.apply(gadget, namespace="default", deadline=soon)
        fake.requests.clear()

        remove_all(shared, RUN, soon, Scope())

        gone = [path.rpartition("/")[2] for method, path in fake.requests if method == "DELETE"]
        assert gone[0] == "g"
        assert gone[-1] == "gadgets.example.com"
        assert set(gone) == {"g", "x", "api", "mine", "reader", "gadgets.example.com"}
        served = {path for path in fake.objects if "/namespaces/mine/" not in path}
        assert {path for path in served if "pods" not in path and "replicasets" not in path} == kept
        assert before < kept

    def test_what_may_not_be_listed_is_passed_over(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        fake.fail("GET", "/api/v1/secrets", 403, "forbidden")

        remove_all(shared, RUN, soon, Scope())

        assert not [path for path in fake.objects if path.endswith("configmaps/x")]

    def test_what_cannot_be_deleted_is_told_after_all_the_rest_went(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        shared.apply(cluster_role(), namespace="default", deadline=soon)
        fake.fail("DELETE", "configmaps/x", 403, "not you")

        with pytest.raises(KindInfraError, match=r"not you"):
            remove_all(shared, RUN, soon, Scope())

        assert not [path for path in fake.objects if path.endswith("clusterroles/reader")]

    def test_the_command_for_a_person_names_what_there_is(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        shared.apply(workload(), namespace="default", deadline=soon)
        shared.apply(config_map("x"), namespace="default", deadline=soon)

        command = OwnedObjects(RUN, shared.kubeconfig).remove_command()

        resources = "configmaps,deployments.apps"
        assert fake.requests
        assert command == remove_command(shared.kubeconfig, RUN, resources.split(","))
        assert command[3:] == (
            *("delete", resources, "--all-namespaces"),
            *("--wait=false", "--selector", f"{RUN_LABEL}={RUN}"),
        )

    def test_objects_are_found_where_only_one_namespace_may_be_listed(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        """Nothing was deleted, without a word, and the Lease kept the next run out."""
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        shared.apply(workload(), namespace="default", deadline=soon)
        acquire_lease(shared, "default", LeaseHolder(run_id=RUN, host="here", folder="/runs/1"))
        scope = Scope(frozenset({"default"}), frozenset({"configmaps", "deployments.apps"}))
        fake.forbidden = only_in_namespaces

        remove_all(shared, RUN, soon, scope)

        gone = [path.rpartition("/")[2] for path, _ in fake.deletions]
        assert sorted(gone) == ["api", "kindinfra", "x"]
        assert gone[-1] == "kindinfra"  # the Lease lets the next run in

    def test_a_kind_that_was_applied_and_may_not_be_listed_is_told(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        shared.apply(cluster_role(), namespace="default", deadline=soon)
        acquire_lease(shared, "default", LeaseHolder(run_id=RUN, host="here", folder="/runs/1"))
        scope = Scope(frozenset({"default"}), frozenset({"configmaps", CLUSTER_ROLES}))
        fake.forbidden = only_in_namespaces

        with pytest.raises(KindInfraError) as caught:
            remove_all(shared, RUN, soon, scope)

        assert f"objects of kind {CLUSTER_ROLES} may be left" in str(caught.value)
        assert f"kubectl delete {CLUSTER_ROLES} --all-namespaces --selector" in str(caught.value)
        assert "configmaps" not in str(caught.value)
        assert sorted(path.rpartition("/")[2] for path, _ in fake.deletions) == ["kindinfra", "x"]

    def test_a_kind_whose_storage_is_just_being_made_is_asked_for_again(
        self,
        shared: SharedKube,
        fake: FakeKubernetes,
        soon: Deadline,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        busy = ApiError(status=429, reason="TooManyRequests", message="storage", what="GET")
        answers, ask = [busy], shared.list_

        def listed(path: str, **query: str) -> list[KubeObject]:
            if path.endswith("/configmaps") and answers:
                raise answers.pop()
            return ask(path, **query)

        monkeypatch.setattr(shared, "list_", listed)

        remove_all(shared, RUN, soon, Scope())

        assert [path.rpartition("/")[2] for path, _ in fake.deletions] == ["x"]

    def test_a_namespace_that_was_there_already_is_not_reported_as_left(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline, places: Places
    ) -> None:
        shared.ensure_namespace("default", soon, {})
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        fake.forbidden = only_in_namespaces

        remove_all(shared, RUN, soon, places.scope)

        assert [path.rpartition("/")[2] for path, _ in fake.deletions] == ["x"]

    def test_a_namespace_of_ours_goes_though_namespaces_cannot_be_listed(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline, places: Places
    ) -> None:
        shared.ensure_namespace("mine", soon, {})
        shared.apply(namespace("declared"), namespace="", deadline=soon)
        fake.forbidden = only_in_namespaces

        remove_all(shared, RUN, soon, places.scope)

        gone = {path.rpartition("/")[2] for path, _ in fake.deletions}
        assert gone == {"mine", "declared"}

    def test_a_namespace_of_ours_that_cannot_be_asked_for_is_reported(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline, places: Places
    ) -> None:
        shared.ensure_namespace("mine", soon, {})
        fake.forbidden = lambda method, path: (
            only_in_namespaces(method, path) or path.endswith("/namespaces/mine")
        )

        with pytest.raises(KindInfraError, match="objects of kind namespaces may be left"):
            remove_all(shared, RUN, soon, places.scope)

    def test_the_command_for_a_person_names_the_one_namespace_that_may_be_listed(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        fake.forbidden = only_in_namespaces
        scope = Scope(frozenset({"default"}), frozenset({"configmaps"}))

        command = OwnedObjects(RUN, shared.kubeconfig, lambda: scope).remove_command()

        assert command[3:7] == ("delete", "configmaps", "--namespace", "default")

    def test_a_kind_of_an_older_version_of_its_group_is_found_too(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        fake.kinds["example.com/v1"] = {"New": ("news", True)}
        fake.kinds["example.com/v1alpha1"] = {"Old": ("olds", True), "New": ("news", True)}
        old = {"apiVersion": "example.com/v1alpha1", "kind": "Old", "metadata": {"name": "o"}}
        shared.apply(old, namespace="default", deadline=soon)

        remove_all(shared, RUN, soon, Scope())

        assert [path.rpartition("/")[2] for path, _ in fake.deletions] == ["o"]

    def test_an_object_that_another_run_took_over_meanwhile_stays(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        shared.apply(config_map("x"), namespace="default", deadline=soon)
        fake.before_deletion = lambda _: fake.put(marked(config_map("x"), "another"))

        remove_all(shared, RUN, soon, Scope())

        (left,) = [obj for path, obj in fake.objects.items() if path.endswith("configmaps/x")]
        assert left["metadata"]["labels"] == {RUN_LABEL: "another"}

    def test_it_is_noted_where_objects_are_put(
        self, fake: FakeKubernetes, soon: Deadline, tmp_path: Path
    ) -> None:
        noted: list[tuple[str, str]] = []
        kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
        forwards = Forwards(kubeconfig)
        kube = SharedKube(kubeconfig, RUN, forwards, note=lambda *where: noted.append(where))
        fake.put(config_map("theirs", mode="as declared"))

        kube.apply(workload(), namespace="default", deadline=soon)
        kube.apply(cluster_role(), namespace="default", deadline=soon)
        kube.apply(config_map("theirs", mode="as declared"), namespace="default", deadline=soon)

        assert noted == [("default", "deployments.apps"), ("", CLUSTER_ROLES)]
        kube.close()
        forwards.close()


class TestMakingAnew:
    def test_a_job_of_others_that_came_meanwhile_is_not_deleted(
        self, shared: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        """It was replaced, since a Job cannot be changed."""
        shared.apply(workload("Job"), namespace="default", deadline=soon)
        path = "/apis/batch/v1/namespaces/default/jobs/api"
        uid = fake.objects[path]["metadata"]["uid"]
        fake.fail("PATCH", path, 422, "field is immutable")
        fake.before_deletion = lambda _: fake.put(workload("Job"))  # without our label

        with pytest.raises(KindInfraError, match="immutable"):
            shared.apply(workload("Job"), namespace="default", deadline=soon)

        assert fake.objects[path]["metadata"]["uid"] != uid


class TestTakingANamespace:
    def test_the_first_run_gets_it_and_the_second_learns_of_the_first(
        self, shared: SharedKube
    ) -> None:
        first = LeaseHolder(run_id="1", host="here", folder="/runs/1")
        second = LeaseHolder(run_id="2", host="there", folder="/runs/2")

        assert acquire_lease(shared, "default", first) is None
        assert acquire_lease(shared, "default", second) == first


EXPIRY = 1_800_000_000.0


class TestExpiry:
    @pytest.fixture
    def marking(self, fake: FakeKubernetes, tmp_path: Path) -> Iterator[SharedKube]:
        """A run whose namespaces expire; it is killed before it deletes them."""
        kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
        forwards = Forwards(kubeconfig)
        kube = SharedKube(kubeconfig, RUN, forwards, marks=NamespaceMarks("kim", EXPIRY))
        yield kube
        kube.close()
        forwards.close()

    def test_a_namespace_says_whose_it_is_and_until_when(
        self, marking: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        marking.ensure_namespace("mine", soon, {"more": "yes"})

        meta = fake.objects["/api/v1/namespaces/mine"]["metadata"]
        assert meta["labels"] == {RUN_LABEL: RUN, OWNER_LABEL: "kim", "more": "yes"}
        assert meta["annotations"] == {EXPIRES: "2027-01-15T08:00:00Z"}

    def test_what_has_expired_goes_with_all_else_of_its_run(
        self, marking: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        marking.ensure_namespace("mine", soon, {})
        marking.apply(cluster_role(), namespace="", deadline=soon)
        fake.put(namespace("theirs"))

        assert remove_expired(marking, EXPIRY + 301, soon) == ["mine"]

        gone = {path.rpartition("/")[2] for path, _ in fake.deletions}
        assert gone == {"mine", "reader"}

    def test_what_has_just_expired_stays_for_clocks_differ(
        self, marking: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        marking.ensure_namespace("mine", soon, {})

        assert remove_expired(marking, EXPIRY + 299, soon) == []
        assert fake.deletions == []

    @pytest.mark.parametrize(
        ("labels", "annotations"),
        [
            ({}, {EXPIRES: "2020-01-01T00:00:00Z"}),
            ({RUN_LABEL: RUN}, {EXPIRES: "2020-01-01T00:00:00Z"}),
            ({RUN_LABEL: RUN, OWNER_LABEL: "kim"}, {}),
            ({RUN_LABEL: RUN, OWNER_LABEL: "kim"}, {EXPIRES: "soon"}),
        ],
    )
    def test_what_is_not_provably_of_a_run_that_expired_stays(
        self,
        marking: SharedKube,
        fake: FakeKubernetes,
        soon: Deadline,
        labels: dict[str, str],
        annotations: dict[str, str],
    ) -> None:
        meta = {"name": "other", "labels": labels, "annotations": annotations}
        fake.put({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})

        assert remove_expired(marking, EXPIRY, soon) == []
        assert fake.deletions == []

    def test_who_may_not_list_namespaces_deletes_none(
        self, marking: SharedKube, fake: FakeKubernetes, soon: Deadline
    ) -> None:
        marking.ensure_namespace("mine", soon, {})
        fake.forbidden = only_in_namespaces

        assert remove_expired(marking, EXPIRY + 301, soon) == []

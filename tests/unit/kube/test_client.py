"""One request: what is sent, what is tried again, and how a failure reads."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import yaml

from pytest_kindinfra.errors import ClusterError
from pytest_kindinfra.kube import client
from pytest_kindinfra.kube.client import ApiError, encode, error_from
from pytest_kindinfra.kube.cluster import Kube
from tests.unit.kube.objects import config_map

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.model import KubeObject
    from tests.fake_kubernetes import FakeKubernetes


def test_nothing_is_read_before_the_first_request(tmp_path: Path) -> None:
    Kube(tmp_path / "not there").close()


@pytest.mark.parametrize("text", ["plain", "ümlaut", "😀", "a\u2028b\x85c", "\x7f", "tab\tline\n"])
def test_what_is_sent_means_the_same_as_json_and_as_yaml(text: str) -> None:
    sent = encode({"key": text}).decode()

    assert json.loads(sent) == {"key": text}
    assert yaml.safe_load(sent) == {"key": text}


def test_a_read_is_tried_again_when_the_connection_breaks(kube: Kube, fake: FakeKubernetes) -> None:
    fake.fail("GET", "/api/v1/nodes", status=0, times=2)

    assert len(kube.list_("/api/v1/nodes")) == 1
    assert fake.requests == [("GET", "/api/v1/nodes")] * 3


def test_a_creation_is_not_tried_again_since_it_may_have_happened(
    kube: Kube, fake: FakeKubernetes
) -> None:
    fake.fail("POST", "/api/v1/namespaces", status=0)

    with pytest.raises(ClusterError, match="no answer from the API server to POST /api/v1/names"):
        kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "a"}})

    assert fake.requests == [("POST", "/api/v1/namespaces")]


def test_a_server_that_never_answers_is_given_up(kube: Kube, fake: FakeKubernetes) -> None:
    fake.fail("GET", "/api/v1/nodes", status=0, times=99)

    with pytest.raises(ClusterError):
        kube.request("GET", "/api/v1/nodes")

    assert len(fake.requests) == 4


class TestPatience:
    """What tests get: an API server may be away for a moment."""

    NODES = "/api/v1/nodes"

    @pytest.fixture
    def patient(
        self, fake: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Kube]:
        monkeypatch.setattr(client, "_AWAY_PAUSE", 0.01)
        kube = Kube(fake.write_kubeconfig(tmp_path / "kubeconfig"), patience=60)
        yield kube
        kube.close()

    def test_it_outlasts_a_server_that_is_away_for_long(
        self, patient: Kube, fake: FakeKubernetes
    ) -> None:
        fake.fail("GET", self.NODES, status=0, times=20)

        assert len(patient.list_(self.NODES)) == 1

    def test_it_outlasts_the_start_of_a_server_that_was_away(
        self, patient: Kube, fake: FakeKubernetes
    ) -> None:
        fake.fail("GET", self.NODES, status=0)
        for status in (403, 401, 500, 503, 429):
            fake.fail("GET", self.NODES, status=status)

        assert len(patient.list_(self.NODES)) == 1

    def test_a_refusal_by_a_server_that_was_there_is_final(
        self, patient: Kube, fake: FakeKubernetes
    ) -> None:
        fake.fail("GET", self.NODES, status=403)

        with pytest.raises(ApiError):
            patient.list_(self.NODES)

    def test_the_end_of_patience_says_how_long_it_was(
        self, fake: FakeKubernetes, tmp_path: Path
    ) -> None:
        fake.fail("GET", self.NODES, status=0, times=9999)
        kube = Kube(fake.write_kubeconfig(tmp_path / "kubeconfig"), patience=0.1)

        with closing(kube), pytest.raises(ClusterError, match=r"GET .*tried for 0\.1 s"):
            kube.list_(self.NODES)

    def test_what_may_have_happened_is_not_repeated(
        self, patient: Kube, fake: FakeKubernetes
    ) -> None:
        fake.fail("POST", "/api/v1/namespaces", status=0)

        with pytest.raises(ClusterError):
            patient.request("POST", "/api/v1/namespaces", body={"metadata": {"name": "a"}})

        assert fake.requests == [("POST", "/api/v1/namespaces")]


def test_an_error_holds_the_servers_sentence(kube: Kube) -> None:
    with pytest.raises(ApiError) as caught:
        kube.request("GET", "/api/v1/namespaces/default/pods/nope")

    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert str(caught.value) == (
        'GET /api/v1/namespaces/default/pods/nope: pods "nope" not found (404 NotFound)'
    )


@pytest.mark.parametrize("body", [b"gone fishing", b'["gone fishing"]', b'"gone fishing"'])
def test_an_error_without_a_status_object_holds_the_text(body: bytes) -> None:
    assert "gone fishing" in error_from(502, body, "GET /").message


def test_what_is_not_there_is_none(kube: Kube) -> None:
    assert kube.get("/api/v1/namespaces/default/pods/nope") is None
    kube.delete_if("/api/v1/namespaces/default/pods/nope", lambda _: True)


def test_a_log_is_cut_to_its_end(kube: Kube, fake: FakeKubernetes) -> None:
    fake.logs["api"] = "first\nlast"
    fake.put({"apiVersion": "v1", "kind": "Pod",
              "metadata": {"name": "api", "labels": {"fake/of": "api"}}})  # fmt: skip

    assert kube.pod_logs("default", "api", "main") == "first\nlast"
    assert kube.pod_logs("default", "api", "main", limit_bytes=4) == "last"


def test_the_client_for_tests_is_made_once(kube: Kube) -> None:
    assert kube.client() is kube.client()


class TestDeleting:
    PATH = "/api/v1/namespaces/default/configmaps/settings"

    def test_only_what_was_looked_at_is_deleted(self, kube: Kube, fake: FakeKubernetes) -> None:
        there = fake.put(config_map(mode="a"))
        meta = dict(there["metadata"])

        assert (
            kube.delete_if(self.PATH, lambda found: found["data"] == {"mode": "a"}) == meta["uid"]
        )

        assert fake.deletions == [
            (self.PATH, {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]})
        ]
        assert self.PATH not in fake.objects

    def test_what_is_not_wanted_stays(self, kube: Kube, fake: FakeKubernetes) -> None:
        fake.put(config_map(mode="a"))

        assert kube.delete_if(self.PATH, lambda found: found["data"] != {"mode": "a"}) == ""
        assert fake.deletions == []

    def test_what_changed_meanwhile_is_looked_at_again(
        self, kube: Kube, fake: FakeKubernetes
    ) -> None:
        fake.put(config_map(mode="a"))

        def wanted(found: KubeObject) -> bool:
            if found["data"] == {"mode": "a"}:
                fake.put(config_map(mode="b"))  # another writer, a moment later
                return True
            return False

        assert kube.delete_if(self.PATH, wanted) == ""
        assert fake.objects[self.PATH]["data"] == {"mode": "b"}

    def test_what_changes_each_time_is_told_and_stays(
        self, kube: Kube, fake: FakeKubernetes
    ) -> None:
        fake.put(config_map(mode="a"))

        with pytest.raises(ApiError, match="Precondition failed"):
            kube.delete_if(self.PATH, lambda _: bool(fake.put(config_map(mode="a"))))
        assert self.PATH in fake.objects

    def test_what_is_ending_is_not_asked_to_end_again(
        self, kube: Kube, fake: FakeKubernetes
    ) -> None:
        """A namespace that is being deleted answers with a conflict."""
        there = fake.put(config_map(mode="a"))
        there["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

        assert kube.delete_if(self.PATH, lambda _: True) == there["metadata"]["uid"]
        assert fake.deletions == []

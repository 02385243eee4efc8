"""How runs leave a group, and what of it nobody holds; the rights that this needs."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pytest_kindinfra.clusters.kubeconfigs import merged, only_context
from pytest_kindinfra.kube.cleanup import remove_expired
from pytest_kindinfra.kube.client import ApiError, error_from
from pytest_kindinfra.kube.expiry import EXPIRES, OWNER_LABEL
from pytest_kindinfra.kube.membership import (
    TEARDOWN_SECONDS,
    TERM,
    is_ending,
    leave_group,
    open_membership,
    remove_abandoned,
)
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.kube.rights import rights_for
from pytest_kindinfra.model import RUN_LABEL
from tests.fake_kubernetes_http import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kindinfra.kube.membership import Membership
    from pytest_kindinfra.system.timeline import Deadline
    from tests.fake_kubernetes import FakeKubernetes

ROOT = Path(__file__).parents[3]
GROUP = "kindinfra-group-ci-7-3f2a91"
NAMESPACE = f"/api/v1/namespaces/{GROUP}"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{GROUP}/leases"
RESULTS = f"{NAMESPACE}/configmaps/kindinfra-results"


class Clock:
    """A clock that goes on while somebody waits; something may happen meanwhile."""

    def __init__(self) -> None:
        self.at = 0.0
        self.meanwhile: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        return self.at

    def pause(self, seconds: float) -> None:
        self.at += seconds
        self.meanwhile()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(fake: FakeKubernetes, tmp_path: Path) -> Iterator[Reader]:
    with closing(Reader(fake.write_kubeconfig(tmp_path / "kubeconfig"))) as reader:
        put_namespace(fake, GROUP)
        yield reader


def put_namespace(fake: FakeKubernetes, name: str, *, expires: str = "2999-01-01") -> None:
    labels = {RUN_LABEL: name, OWNER_LABEL: "kim"}
    marks = {"labels": labels, "annotations": {EXPIRES: f"{expires}T00:00:00Z"}}
    fake.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **marks}})


def run(reader: Reader, who: str, clock: Clock) -> Membership:
    return open_membership(reader, GROUP, who, clock=clock, pause=clock.pause)


def joined(reader: Reader, who: str, clock: Clock) -> Membership:
    membership = run(reader, who, clock)
    assert membership.members.join(membership.results)
    return membership


def test_the_last_run_is_told_so_and_its_lease_is_gone(
    reader: Reader, fake: FakeKubernetes, clock: Clock
) -> None:
    first, second = joined(reader, "a", clock), joined(reader, "b", clock)
    clock.meanwhile = second.members.renew

    assert not first.leave()
    assert second.leave()
    assert not any("member" in path for path in fake.objects)


def test_a_holder_that_leaves_lets_the_next_run_provision_at_once(
    reader: Reader, clock: Clock
) -> None:
    first, second = joined(reader, "a", clock), joined(reader, "b", clock)
    assert first.election.step()
    assert not second.election.step()
    clock.meanwhile = second.members.renew

    assert not first.leave()
    at = clock.at
    assert second.election.step()
    assert clock.at == at


def test_a_group_is_left_for_a_run_whose_provisioner_was_killed(
    reader: Reader, fake: FakeKubernetes, clock: Clock
) -> None:
    killed = joined(reader, "a", clock)
    assert killed.election.step()

    assert leave_group(reader.kubeconfig, GROUP, "a")

    assert not any("member" in path for path in fake.objects)
    assert fake.objects[f"{LEASES}/kindinfra-holder"]["spec"] == {}


def test_nothing_is_left_to_delete_where_the_namespace_is_gone(
    reader: Reader, fake: FakeKubernetes
) -> None:
    fake.delete(NAMESPACE)

    assert not leave_group(reader.kubeconfig, GROUP, "a")


TERMINATING = b"""{"kind": "Status", "reason": "Forbidden", "message": "being terminated",
 "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}}"""


def test_a_refusal_for_lack_of_rights_is_not_taken_for_a_namespace_that_ends() -> None:
    assert is_ending(error_from(403, TERMINATING, "POST"))
    assert is_ending(error_from(404, b"{}", "POST"))
    assert not is_ending(error_from(403, b'{"reason": "Forbidden", "details": {}}', "POST"))


def test_who_may_not_leave_is_told_so(reader: Reader, fake: FakeKubernetes) -> None:
    fake.forbidden = lambda method, _: method == "POST"

    with pytest.raises(ApiError, match="forbidden"):
        leave_group(reader.kubeconfig, GROUP, "a")


def test_the_stack_of_a_group_goes_when_all_of_its_runs_are_dead(
    reader: Reader, fake: FakeKubernetes, clock: Clock, soon: Deadline
) -> None:
    for who in ("a", "b"):
        joined(reader, who, clock).results.claim()
    fake.put({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
              "metadata": {"name": "theirs", "labels": {RUN_LABEL: GROUP}}})  # fmt: skip

    assert remove_abandoned(reader, soon, clock=clock, pause=clock.pause) == [GROUP]

    assert clock.at >= TERM
    assert NAMESPACE not in fake.objects
    assert not any(path.endswith("/clusterroles/theirs") for path in fake.objects)


def test_a_group_stays_while_one_of_its_runs_is_alive(
    reader: Reader, fake: FakeKubernetes, clock: Clock, soon: Deadline
) -> None:
    joined(reader, "dead", clock)
    clock.meanwhile = joined(reader, "alive", clock).members.renew

    assert remove_abandoned(reader, soon, clock=clock, pause=clock.pause) == []

    assert NAMESPACE in fake.objects
    assert RESULTS not in fake.objects


def test_a_run_that_joins_meanwhile_keeps_the_stack(
    reader: Reader, fake: FakeKubernetes, clock: Clock, soon: Deadline
) -> None:
    late = run(reader, "late", clock)
    at_close = iter([True])

    def join(method: str, path: str) -> bool:
        if (method, path) == ("POST", f"{NAMESPACE}/configmaps") and next(at_close, False):
            late.members.join(late.results)  # its Lease is there before the results are closed
        return False

    fake.forbidden = join

    assert remove_abandoned(reader, soon, clock=clock, pause=clock.pause) == []
    assert NAMESPACE in fake.objects
    assert not late.results.is_closed


def test_a_teardown_that_died_is_taken_over(
    reader: Reader, fake: FakeKubernetes, clock: Clock, soon: Deadline
) -> None:
    joined(reader, "a", clock).leave()
    assert RESULTS in fake.objects
    times = itertools.count(0, TEARDOWN_SECONDS / 2)  # it is looked at every 90 s

    removed = remove_abandoned(reader, soon, clock=lambda: next(times), pause=clock.pause)

    assert removed == [GROUP]


def test_a_namespace_of_a_single_run_is_no_group(
    reader: Reader, fake: FakeKubernetes, clock: Clock, soon: Deadline
) -> None:
    fake.objects[NAMESPACE]["metadata"]["labels"][RUN_LABEL] = "20261129-101500-3f2a91"

    assert remove_abandoned(reader, soon, clock=clock, pause=clock.pause) == []
    assert NAMESPACE in fake.objects


# -- rights ----------------------------------------------------------------------------------------

WATCH = ("", "configmaps", "watch")
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
Used = set[tuple[str, str, str]]


def verb_of(method: str, path: str) -> tuple[str, str, str]:
    """Return the right that a request needs: an API group, a resource and a verb."""
    address = Address.parse(path)
    assert address, path
    group = address.version.rpartition("/")[0]
    verb = VERBS.get(method) or ("get" if address.name else "list")
    return group, address.plural, verb


def only_with(rights: Used, used: Used) -> Callable[[str, str], bool]:
    """Return what forbids everything else, and notes the rights that were used."""

    def forbids(method: str, path: str) -> bool:
        if not Address.parse(path):
            return False  # discovery, which everybody may read
        right = verb_of(method, path)
        used.update({right} & rights)
        return right not in rights

    return forbids


def test_a_run_of_a_group_is_asked_for_the_rights_that_it_uses(
    reader: Reader, fake: FakeKubernetes, clock: Clock
) -> None:
    found = rights_for(reader, [], GROUP, forwards=False, grouped=True)
    rights = {(one.group, one.resource, one.verb) for one in found if one.namespace == GROUP}
    used: Used = set()
    fake.forbidden = only_with(rights, used)

    member = joined(reader, "a", clock)
    joined(reader, "dead", clock)
    assert member.election.step()
    member.results.claim()
    member.results.publish("service-web", "ready")
    assert member.leave()

    # What runs without a group need too is not used here; the server sees no verb in a path.
    assert used | {WATCH} == rights - {("", "pods", "list")}


def test_the_namespace_of_a_group_has_to_be_created_and_deleted(reader: Reader) -> None:
    missing = rights_for(reader, [], "kindinfra-group-new", forwards=False, grouped=True)
    there = rights_for(reader, [], GROUP, forwards=False, grouped=True)

    verbs = [[one.verb for one in found if not one.namespace] for found in (missing, there)]
    assert verbs == [["create", "delete"], []]


def documents() -> dict[str, Any]:
    text = (ROOT / "manifests" / "kindinfra-gc.yaml").read_text("utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def test_the_cron_job_deletes_what_nobody_holds_with_no_more_rights_than_it_has(
    reader: Reader, fake: FakeKubernetes, clock: Clock, soon: Deadline
) -> None:
    rights = {
        (group, resource, verb)
        for rule in documents()["ClusterRole"]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    joined(reader, "dead", clock).results.claim()
    put_namespace(fake, "kindinfra-group-new")
    put_namespace(fake, "kindinfra-old", expires="2020-01-01")
    used: Used = set()
    fake.forbidden = only_with(rights, used)

    assert remove_expired(reader, 1_800_000_000.0, soon) == ["kindinfra-old"]
    removed = remove_abandoned(reader, soon, clock=clock, pause=clock.pause)

    assert sorted(removed) == [GROUP, "kindinfra-group-new"]
    assert used == rights


def test_the_objects_of_the_cron_job_name_each_other() -> None:
    found = documents()
    account = found["ServiceAccount"]["metadata"]
    binding, job = found["ClusterRoleBinding"], found["CronJob"]
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (config,) = [one["configMap"]["name"] for one in pod["volumes"] if "configMap" in one]

    assert binding["roleRef"]["name"] == found["ClusterRole"]["metadata"]["name"]
    subject = {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    assert binding["subjects"] == [subject]
    assert pod["serviceAccountName"] == account["name"]
    assert config == found["ConfigMap"]["metadata"]["name"]
    assert {one["metadata"].get("namespace", account["namespace"]) for one in found.values()} == {
        account["namespace"]
    }
    assert found["Namespace"]["metadata"]["name"] == account["namespace"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}


def test_the_cron_jobs_kubeconfig_is_one_that_the_command_takes() -> None:
    found = documents()
    container = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "kubeconfig"]
    (name,) = found["ConfigMap"]["data"]
    config = yaml.safe_load(found["ConfigMap"]["data"][name])

    assert f"--kubeconfig={mount['mountPath']}/{name}" in " ".join(container["args"])
    user = only_context(merged({Path("/config"): config}))["users"][0]["user"]
    assert user["tokenFile"].startswith("/var/run/secrets/kubernetes.io/serviceaccount/")

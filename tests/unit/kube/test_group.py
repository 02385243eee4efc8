"""Runs that share a stack: who provisions, what the others learn, and who is the last one."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.election import ConflictError, Election, Entry, Observed
from pytest_kindinfra.kube.group import Members, ReplacedError, Results, Retries
from pytest_kindinfra.kube.leases import ConfigMaps, Leases
from tests.fakes import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kindinfra.kube.cluster import Kube
    from tests.fake_kubernetes import FakeKubernetes

TERM = 15.0
TEARDOWN = 180.0


class FakeStore:
    """Entries in memory; `before_write` happens once, right before the next write.

    While it is `contended`, another run changes each entry right before it is written or removed.
    """

    def __init__(self) -> None:
        self.contended = False
        self.entries: dict[str, Entry] = {}
        self.before_write: Callable[[], object] | None = None
        self.sent_twice = False
        self._versions = itertools.count(1)

    def read(self, name: str) -> Entry | None:
        return self.entries.get(name)

    def read_all(self, prefix: str) -> list[Entry]:
        return [one for name, one in self.entries.items() if name.startswith(prefix)]

    def write(self, name: str, data: Mapping[str, str], *, version: str | None) -> Entry:
        happen, self.before_write = self.before_write, None
        if happen:
            happen()
        self._contend(name)
        there = self.entries.get(name)
        if (there.version if there else None) != version:
            raise ConflictError(name)
        entry = Entry(name=name, version=str(next(self._versions)), data=dict(data))
        self.entries[name] = entry
        if self.sent_twice:
            self.sent_twice = False
            return self.write(name, data, version=version)
        return entry

    def _contend(self, name: str) -> None:
        if self.contended:
            data = self.entries[name].data if name in self.entries else {}
            self.entries[name] = Entry(name=name, version=str(next(self._versions)), data=data)

    def remove(self, entry: Entry) -> None:
        self._contend(entry.name)
        there = self.entries.get(entry.name)
        if there and there.version != entry.version:
            raise ConflictError(entry.name)
        self.entries.pop(entry.name, None)

    def await_change(self, name: str, *, version: str, seconds: int) -> None:
        """Return at once: nothing else happens meanwhile."""


class Clock:
    """A clock of one machine; the machines' clocks differ by hours."""

    def __init__(self, at: float = 0.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def retries(clock: Clock, meanwhile: Callable[[], object] = lambda: None) -> Retries:
    """Return what repeats writes: a pause takes a third of a term, in which something happens."""

    def pause() -> None:
        meanwhile()
        clock.at += TERM / 3

    return Retries(clock, pause)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def election(store: FakeStore, who: str, clock: Clock) -> Election:
    return Election(store, "group", who, term=TERM, clock=clock)


def test_the_first_run_is_elected_and_the_second_follows(store: FakeStore) -> None:
    first, second = election(store, "a", Clock()), election(store, "b", Clock(9000))

    assert first.step()
    assert not second.step()
    assert first.step()


def test_of_two_that_see_no_lease_one_is_elected(store: FakeStore) -> None:
    first, second = election(store, "a", Clock()), election(store, "b", Clock())
    store.before_write = second.step

    assert not first.step()
    assert second.holds


def test_a_holder_that_renews_stays_however_long_it_takes(store: FakeStore) -> None:
    clocks = Clock(), Clock(-3600)
    first, second = election(store, "a", clocks[0]), election(store, "b", clocks[1])

    for _ in range(10):
        assert first.step()
        assert not second.step()
        for clock in clocks:
            clock.at += TERM * 0.9


def test_a_dead_holder_is_replaced_a_term_after_it_was_last_seen(store: FakeStore) -> None:
    clock = Clock(-3600)
    election(store, "a", Clock()).step()
    second = election(store, "b", clock)

    assert not second.step()
    clock.at += TERM - 1
    assert not second.step()
    clock.at += 1
    assert second.step()


def test_of_two_that_see_a_dead_holder_one_takes_over(store: FakeStore) -> None:
    clock = Clock()
    election(store, "a", clock).step()
    second, third = election(store, "b", clock), election(store, "c", clock)
    assert not second.step()
    assert not third.step()
    clock.at += TERM
    store.before_write = third.step

    assert not second.step()
    assert third.holds


def test_a_holder_that_was_paused_past_its_term_holds_nothing(store: FakeStore) -> None:
    clock = Clock()
    first = election(store, "a", clock)
    first.step()
    clock.at += TERM

    assert not first.holds


def test_a_holder_that_was_replaced_meanwhile_follows(store: FakeStore) -> None:
    clock = Clock()
    first, second = election(store, "a", clock), election(store, "b", clock)
    first.step()
    second.step()
    clock.at += TERM
    second.step()

    assert not first.step()
    assert second.step()


def test_a_renewal_that_was_sent_twice_is_a_renewal(store: FakeStore) -> None:
    first = election(store, "a", Clock())
    first.step()
    store.sent_twice = True

    assert first.step()


def test_a_holder_that_resigns_is_replaced_at_once(store: FakeStore) -> None:
    first, second = election(store, "a", Clock()), election(store, "b", Clock())
    first.step()
    first.resign()

    assert second.step()
    assert not first.step()


def test_a_resignation_changes_nothing_for_another_holder(store: FakeStore) -> None:
    first, second = election(store, "a", Clock()), election(store, "b", Clock())
    first.step()
    second.resign()

    assert first.step()


def results(store: FakeStore, who: str, clock: Clock | None = None) -> Results:
    return Results(store, "results", who, retries(clock or Clock()))


def test_what_the_holder_publishes_is_read_by_the_others(store: FakeStore) -> None:
    holder = results(store, "a")
    holder.claim()
    holder.publish("service-web", "ready")
    holder.publish("service-db", "failed")

    assert results(store, "b").published() == {"service-web": "ready", "service-db": "failed"}


def test_a_holder_that_wakes_after_its_term_writes_nothing(store: FakeStore) -> None:
    paused, second = results(store, "a"), results(store, "b")
    paused.claim()
    paused.publish("cluster", "ready")
    assert second.claim() == {"cluster": "ready"}

    with pytest.raises(ReplacedError, match="another run of the group provisions"):
        paused.publish("service-web", "by a")
    with pytest.raises(ReplacedError):
        paused.publish("service-web", "by a, once more")
    second.publish("service-web", "by b")
    assert second.published() == {"cluster": "ready", "service-web": "by b"}


def test_a_takeover_right_before_a_write_wins(store: FakeStore) -> None:
    first, second = results(store, "a"), results(store, "b")
    first.claim()
    store.before_write = second.claim

    with pytest.raises(ReplacedError):
        first.publish("service-web", "by a")
    assert second.published() == {}


def test_nobody_publishes_without_a_claim(store: FakeStore) -> None:
    with pytest.raises(ReplacedError):
        results(store, "a").publish("cluster", "ready")


def test_results_that_were_removed_are_not_written_again(store: FakeStore) -> None:
    holder = results(store, "a")
    holder.claim()
    store.entries.clear()

    with pytest.raises(ReplacedError):
        holder.publish("cluster", "ready")
    assert store.entries == {}


def test_a_published_result_stays(store: FakeStore) -> None:
    first, second = results(store, "a"), results(store, "b")
    first.claim()
    first.publish("service-web", "first")
    second.claim()

    assert second.publish("service-web", "second") == "first"
    assert first.published() == {"service-web": "first"}


def test_a_record_that_was_sent_twice_is_published(store: FakeStore) -> None:
    holder = results(store, "a")
    holder.claim()
    store.sent_twice = True

    assert holder.publish("cluster", "ready") == "ready"


def member(
    store: FakeStore, who: str, clock: Clock, meanwhile: Callable[[], object] = lambda: None
) -> Members:
    repeating = retries(clock, meanwhile)
    return Members(store, "member-", who, term=TERM, retries=repeating)


def test_the_last_one_out_is_told_so(store: FakeStore) -> None:
    shared, clock = results(store, "any"), Clock()
    second = member(store, "b", clock)
    first = member(store, "a", clock, meanwhile=second.renew)  # the other is alive
    assert first.join(shared)
    assert second.join(shared)

    assert not first.leave(shared)
    assert second.leave(shared)


def test_a_dead_member_does_not_keep_the_stack(store: FakeStore) -> None:
    shared, clock = results(store, "any"), Clock()
    member(store, "dead", Clock(-3600)).join(shared)
    last = member(store, "b", clock)
    last.join(shared)

    assert last.leave(shared)
    assert clock.at >= TERM
    assert store.read_all("member-") == []


def test_of_two_that_leave_at_the_same_time_one_is_the_last(store: FakeStore) -> None:
    clock = Clock()
    first, second = member(store, "a", clock), member(store, "b", clock)
    first.join(results(store, "a"))
    second.join(results(store, "b"))
    lasts: list[bool] = []
    # The first one sees no other any more; before it has written its mark, the second one goes on.
    store.remove(store.entries["member-b"])
    store.before_write = lambda: lasts.append(second.leave(results(store, "b")))

    lasts.append(first.leave(results(store, "a")))
    assert sorted(lasts) == [False, True]


def test_a_run_that_joins_while_the_last_one_leaves_keeps_the_stack(store: FakeStore) -> None:
    shared, clock = results(store, "any"), Clock()
    last, late = member(store, "a", clock), member(store, "b", clock)
    last.join(shared)
    joined: list[bool] = []
    store.before_write = lambda: joined.append(late.join(shared))

    assert not last.leave(shared)
    assert joined == [True]
    assert not shared.is_closed


def test_nobody_joins_a_stack_that_is_being_torn_down(store: FakeStore) -> None:
    shared, clock = results(store, "any"), Clock()
    last, late = member(store, "a", clock), member(store, "b", clock)
    last.join(shared)
    last.leave(shared)

    assert not late.join(shared)
    assert store.read_all("member-") == []


def closed_by_a_dead_run(store: FakeStore) -> Results:
    """Return the results of a stack whose last run was killed while it tore it down."""
    holder = results(store, "dead")
    holder.claim()
    holder.publish("service-web", "ready")
    member(store, "dead", Clock()).leave(holder)
    assert holder.is_closed
    return results(store, "b")


def test_results_are_forgotten_if_a_teardown_does_not_end(store: FakeStore) -> None:
    shared, clock = closed_by_a_dead_run(store), Clock(-3600)
    observed, late = Observed(clock), member(store, "b", clock)

    assert not late.join(shared)
    shared.begin_anew(observed, after=TEARDOWN)
    clock.at += TEARDOWN - 1
    shared.begin_anew(observed, after=TEARDOWN)
    assert not late.join(shared)
    clock.at += 1
    shared.begin_anew(observed, after=TEARDOWN)

    assert late.join(shared)
    assert shared.published() == {}


def test_results_of_a_stack_that_is_used_are_never_forgotten(store: FakeStore) -> None:
    shared, clock = results(store, "a"), Clock()
    shared.claim()
    shared.publish("service-web", "ready")
    observed = Observed(clock)
    for _ in range(3):
        shared.begin_anew(observed, after=TEARDOWN)
        clock.at += TEARDOWN

    assert shared.published() == {"service-web": "ready"}


def test_of_two_that_forget_results_neither_forgets_what_came_after(store: FakeStore) -> None:
    clock = Clock()
    first, second = closed_by_a_dead_run(store), results(store, "c")
    observed = Observed(clock)
    first.begin_anew(observed, after=TEARDOWN)
    clock.at += TEARDOWN

    def quicker() -> None:
        second.begin_anew(observed, after=TEARDOWN)
        second.claim()
        second.publish("service-web", "by c")

    store.before_write = quicker
    first.begin_anew(observed, after=TEARDOWN)

    assert second.published() == {"service-web": "by c"}


@pytest.mark.parametrize(
    ("what", "write"),
    [
        ("the results", lambda results, _: results.claim()),
        ("the results", lambda results, _: results.close()),
        ("Lease member-a", lambda _, members: members.renew()),
        ("Lease member-a", lambda results, members: members.join(results)),
        ("Lease member-a", lambda results, members: members.leave(results)),
    ],
)
def test_a_write_that_others_get_ahead_of_is_not_repeated_without_end(
    store: FakeStore, what: str, write: Callable[[Results, Members], object]
) -> None:
    clock = Clock()
    shared, members = results(store, "a", clock), member(store, "a", clock)
    members.renew()
    store.contended = True

    expected = f"{what} could not be written within 10 s, since other runs .*\nTo fix: run again"
    with pytest.raises(KindInfraError, match=expected):
        write(shared, members)
    assert clock.at < TERM


def test_a_publication_that_a_mark_gets_ahead_of_is_not_repeated_without_end(
    store: FakeStore,
) -> None:
    clock = Clock()
    holder = results(store, "a", clock)
    holder.claim()
    store.contended = True

    with pytest.raises(KindInfraError, match="the result service-web could not be written within"):
        holder.publish("service-web", "ready")
    assert clock.at < TERM


def test_a_write_that_others_got_ahead_of_a_few_times_is_repeated(store: FakeStore) -> None:
    clock = Clock()

    def calm() -> None:
        store.contended = False

    shared = Results(store, "results", "a", retries(clock, meanwhile=calm))
    store.contended = True

    assert shared.claim() == {}
    assert shared.publish("service-web", "ready") == "ready"


LABELS = {"dev.kindinfra/group": "one"}


def test_leases_of_a_cluster_elect_one_holder(fake: FakeKubernetes, kube: Kube) -> None:
    assert fake.objects
    leases, clock = Leases(kube, "default", LABELS), Clock()
    first = Election(leases, "group", "a", term=TERM, clock=clock)
    second = Election(leases, "group", "b", term=TERM, clock=clock)

    assert first.step()
    assert first.step()
    assert not second.step()
    clock.at += TERM
    assert second.step()
    assert not first.step()
    lease = fake.objects["/apis/coordination.k8s.io/v1/namespaces/default/leases/group"]
    assert lease["spec"] == {"holderIdentity": "b"}
    assert lease["metadata"]["annotations"] == {"dev.kindinfra/renewal": "3"}


def test_config_maps_of_a_cluster_fence_a_holder_that_was_replaced(kube: Kube) -> None:
    maps = ConfigMaps(kube, "default", LABELS)
    first, second = (Results(maps, "results", who, retries(Clock())) for who in ("a", "b"))
    first.claim()
    first.publish("cluster", "ready")
    second.claim()

    with pytest.raises(ReplacedError):
        first.publish("service-web", "by a")
    assert second.published() == {"cluster": "ready"}


def test_an_entry_that_changed_is_neither_written_nor_removed(kube: Kube) -> None:
    maps = ConfigMaps(kube, "default", LABELS)
    old = maps.write("results", {"a": "1"}, version=None)
    new = maps.write("results", {"a": "2"}, version=old.version)

    with pytest.raises(ConflictError):
        maps.write("results", {"a": "3"}, version=old.version)
    with pytest.raises(ConflictError):
        maps.write("results", {"a": "3"}, version=None)
    with pytest.raises(ConflictError):
        maps.remove(old)
    assert maps.read("results") == new
    maps.remove(new)
    maps.remove(new)
    with pytest.raises(ConflictError):
        maps.write("results", {"a": "3"}, version=new.version)


def test_only_entries_of_the_same_group_are_seen(kube: Kube) -> None:
    Leases(kube, "default", LABELS).write("member-a", {"holder": "a"}, version=None)
    Leases(kube, "default", {"dev.kindinfra/group": "two"}).write(
        "member-b", {"holder": "b"}, version=None
    )

    found = Leases(kube, "default", LABELS).read_all("member-")

    assert [(one.name, one.data["holder"]) for one in found] == [("member-a", "a")]


def test_a_namespace_that_is_missing_is_no_conflict(kube: Kube) -> None:
    with pytest.raises(ApiError, match="not found"):
        Leases(kube, "nowhere", LABELS).write("group", {"holder": "a"}, version=None)


def test_news_of_results_come_as_soon_as_they_are_there(fake: FakeKubernetes, kube: Kube) -> None:
    maps = ConfigMaps(kube, "default", LABELS)
    holder, follower = (Results(maps, "results", who, retries(Clock())) for who in ("a", "b"))
    at = len(fake.requests)
    found: list[Mapping[str, str]] = []

    def follow() -> None:
        found.append(follower.published())
        while not found[-1]:
            follower.await_news(100)
            found.append(follower.published())

    following = threading.Thread(target=follow)
    following.start()
    eventually(lambda: ("GET", "/api/v1/namespaces/default/configmaps") in fake.requests[at:])
    holder.claim()
    holder.publish("cluster", "ready")
    following.join(60)

    assert not following.is_alive()
    assert found[-1] == {"cluster": "ready"}
    assert len(found) <= 4


def test_a_watch_of_results_ends_without_news(kube: Kube) -> None:
    shared = Results(ConfigMaps(kube, "default", LABELS), "results", "a", retries(Clock()))
    shared.claim()
    shared.published()

    shared.await_news(1)

    assert shared.published() == {}

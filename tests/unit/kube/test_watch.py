"""The watch of pods: it follows, it survives, and it ends when told to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pytest_kindinfra.kube import client
from pytest_kindinfra.kube import reader as watching
from pytest_kindinfra.system.timeline import Deadline, monotonic, wait_until

if TYPE_CHECKING:
    import pytest

    from pytest_kindinfra.kube.cluster import Kube
    from tests.fake_kubernetes import FakeKubernetes


def put_pod(fake: FakeKubernetes, name: str) -> None:
    labels = {"fake/of": name}
    fake.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}})


def names(kube: Kube) -> set[str]:
    return {pod["metadata"]["name"] for pod in kube.watch("default").pods()[1]}


def sees(kube: Kube, *expected: str) -> bool:
    return bool(wait_until(lambda: names(kube) == set(expected), Deadline.after(60), every=0.01))


def watches(fake: FakeKubernetes) -> int:
    return sum(path == "/api/v1/namespaces/default/pods" for _, path in fake.requests)


def test_it_sees_pods_that_were_there_and_those_that_come_and_go(
    kube: Kube, fake: FakeKubernetes
) -> None:
    put_pod(fake, "old")
    assert sees(kube, "old")

    put_pod(fake, "new")
    assert sees(kube, "old", "new")

    fake.delete("/api/v1/namespaces/default/pods/old")
    assert sees(kube, "new")


def test_one_watch_serves_all_who_ask_for_a_namespace(kube: Kube) -> None:
    assert kube.watch("default") is kube.watch("default")
    assert kube.watch("default") is not kube.watch("kube-system")


def test_a_waiter_wakes_when_something_changes(kube: Kube, fake: FakeKubernetes) -> None:
    watch = kube.watch("default")
    assert watch.wait(0, 5)  # the first list
    seen, _ = watch.pods()
    threading.Timer(0.05, put_pod, [fake, "new"]).start()

    assert watch.wait(seen, 5)
    assert not watch.wait(watch.pods()[0], 0.01)


def test_it_goes_on_after_a_lost_connection(kube: Kube, fake: FakeKubernetes) -> None:
    assert sees(kube)
    wait_until(lambda: watches(fake) == 2, Deadline.after(60), every=0.01)

    fake.hang_up()
    put_pod(fake, "meanwhile")

    assert sees(kube, "meanwhile")


def test_it_lists_anew_when_the_server_has_forgotten(kube: Kube, fake: FakeKubernetes) -> None:
    put_pod(fake, "old")
    assert sees(kube, "old")

    fake.delete("/api/v1/namespaces/default/pods/old")
    fake.changes.clear()
    fake.forget()
    fake.hang_up()

    assert sees(kube)


def test_it_lists_anew_after_half_an_answer(
    kube: Kube, fake: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = [b'{"type": "ADDED", "object": {}}', b'{"type": "ADD']
    whole = client.lines
    monkeypatch.setattr(
        watching, "lines", lambda response: iter([halves.pop()]) if halves else whole(response)
    )

    assert sees(kube)
    assert wait_until(lambda: not halves, Deadline.after(60), every=0.01)
    put_pod(fake, "new")

    assert sees(kube, "new")


def test_it_survives_a_server_that_refuses_for_a_while(kube: Kube, fake: FakeKubernetes) -> None:
    put_pod(fake, "there")
    fake.fail("GET", "/pods", 503, times=2)

    assert sees(kube, "there")


def test_closing_ends_the_thread_at_once_though_it_reads(kube: Kube, fake: FakeKubernetes) -> None:
    assert sees(kube)
    wait_until(lambda: watches(fake) == 2, Deadline.after(60), every=0.01)
    start = monotonic()

    kube.close()

    assert monotonic() - start < 20
    assert [one.name for one in threading.enumerate() if one.name.startswith("kindinfra")] == []

"""A fake API server and the `Kube` that talks to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.kube import client, troubles
from pytest_kindinfra.kube.cluster import Kube
from pytest_kindinfra.system.timeline import Deadline
from tests.fake_kubernetes import FakeKubernetes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what is long for the sake of real clusters."""
    monkeypatch.setattr(client, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(troubles, "EVENTS_AFTER", 0.05)
    monkeypatch.setattr(troubles, "EVENTS_EVERY", 0.05)


@pytest.fixture
def fake() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as server:
        yield server


@pytest.fixture
def kube(fake: FakeKubernetes, tmp_path: Path) -> Iterator[Kube]:
    kube = Kube(fake.write_kubeconfig(tmp_path / "kubeconfig"))
    yield kube
    kube.close()


@pytest.fixture
def soon() -> Deadline:
    """Time enough for everything that works."""
    return Deadline.after(10)

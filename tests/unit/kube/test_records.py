"""What helm recorded of a release says whether it may go on, and whether it has anything to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.deploy.records import Records
from pytest_kindinfra.model import Release

if TYPE_CHECKING:
    from pytest_kindinfra.kube.cluster import Kube
    from tests.fake_kubernetes import FakeKubernetes

RELEASE = Release(name="web", namespace="default", chart=Path("web"), version="3.19.2")


def record(fake: FakeKubernetes, number: int, status: str, **labels: str) -> None:
    about = {"owner": "helm", "name": "web", "version": str(number), "status": status}
    content = {f"dev.kindinfra/{key}": value for key, value in labels.items()}
    meta: dict[str, Any] = {"name": f"sh.helm.release.v1.web.v{number}", "namespace": "default"}
    fake.put(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "labels": about | content}}
    )


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        pytest.param([], False, id="none"),
        pytest.param([(1, "deployed", "abc")], True, id="deployed"),
        pytest.param([(1, "deployed", "xyz")], False, id="of something else"),
        pytest.param([(9, "superseded", "xyz"), (10, "deployed", "abc")], True, id="by number"),
        pytest.param([(1, "deployed", "abc"), (2, "failed", "xyz")], False, id="failed since"),
        pytest.param([(1, "pending-install", "abc")], False, id="cut short"),
    ],
)
def test_a_release_is_deployed_if_its_newest_record_says_so(
    fake: FakeKubernetes,
    kube: Kube,
    records: list[tuple[int, str, str]],
    expected: bool,  # noqa: FBT001
) -> None:
    for number, status, content in records:
        record(fake, number, status, content=content)

    assert Records(kube, RELEASE).is_deployed("abc") is expected


def test_only_what_was_cut_short_is_cleared(fake: FakeKubernetes, kube: Kube) -> None:
    for number, status in enumerate(["superseded", "deployed", "failed", "pending-upgrade"]):
        record(fake, number, status)

    Records(kube, RELEASE).clear_cut_short()

    names = [name.rpartition("/")[2] for name in fake.objects if "/secrets/" in name]
    assert sorted(names) == [f"sh.helm.release.v1.web.v{number}" for number in range(3)]


@pytest.mark.parametrize(
    ("version", "labels"),
    [
        ("3.12.3", {}),
        ("3.13.0", {"dev.kindinfra/content": "abc"}),
        ("4.0.5", {"dev.kindinfra/content": "abc"}),
    ],
)
def test_a_record_is_labelled_by_helms_that_can(
    kube: Kube, version: str, labels: dict[str, str]
) -> None:
    release = Release(name="web", namespace="default", chart=Path("web"), version=version)

    assert Records(kube, release).labels("abc") == labels

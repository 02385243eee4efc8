"""What a test with `fresh` gets, and what is known when its worker is killed meanwhile."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.intests.workloads import Workloads
from pytest_kindinfra.kube import routes
from pytest_kindinfra.kube.rewrite import CONTENT_ANNOTATION
from pytest_kindinfra.session.freshness import Freshness
from pytest_kindinfra.state.records import Change, DeployedService

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.intests.stack import Stack
    from pytest_kindinfra.model import KubeObject
    from pytest_kindinfra.state.directory import RunDirectory
    from tests.fake_kubernetes import FakeKubernetes

JOB = "/apis/batch/v1/namespaces/default/jobs/count"
MODULE = "kindinfra_fresh_steps"


@pytest.fixture(autouse=True)
def no_pause_for_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_BETWEEN_SYNCS", 0.05)


def renew(run: RunDirectory, folder: Path) -> None:
    with closing(Freshness(run, shared=False, folder=folder, test="test_it")) as freshness:
        freshness.renew(["web"])


def record_with(directory: RunDirectory, **changes: Any) -> None:
    record = directory.read(DeployedService, "web")
    assert record
    directory.write(replace(record, **changes), "web")


def test_a_job_that_a_killed_worker_had_deleted_is_missed(
    stack: Stack,
    run: RunDirectory,
    fake: FakeKubernetes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It used to be noted nowhere, so that following tests ran on half a service."""
    containers = [{"name": "main", "image": "web"}]
    spec = {"template": {"spec": {"restartPolicy": "Never", "containers": containers}}}
    stack.api.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "count"}, "spec": spec},
        namespace="default", deadline=stack.workloads("web", None)[1],
    )  # fmt: skip
    outline = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "count"}}
    record_with(run, objects=(outline,))

    def die(_self: Workloads, obj: KubeObject, _deadline: object) -> None:
        fake.delete(JOB)
        raise SystemExit(obj["metadata"]["name"])

    monkeypatch.setattr(Workloads, "_make_anew", die)
    with pytest.raises(SystemExit):
        renew(run, tmp_path)

    assert stack.lack_of(frozenset({"web"})) == (
        'service "web" was not restored: what the test test_it changed (disturbed) could not be '
        f'undone: service "web": {JOB} does not exist any more'
    )


def test_a_service_that_got_fresh_leaves_no_change(
    stack: Stack, run: RunDirectory, fake: FakeKubernetes, tmp_path: Path
) -> None:
    before = {pod["metadata"]["uid"] for pod in fake.pods_of("web")}

    renew(run, tmp_path)

    assert before.isdisjoint(pod["metadata"]["uid"] for pod in fake.pods_of("web"))
    assert run.names(Change) == []
    stack.close()


@pytest.mark.usefixtures("stack")
def test_a_fresh_step_applies_its_objects_as_the_deployment_did(
    run: RunDirectory, fake: FakeKubernetes, tmp_path: Path
) -> None:
    """Images of custom fields, the hash of the content and namespaces used to be left out."""
    spec = {"selector": {"matchLabels": {"app": "x"}}, "worker": {"image": "web"},
            "template": {"metadata": {"labels": {"app": "x"}},
                         "spec": {"containers": [{"name": "main", "image": "web"}]}}}  # fmt: skip
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "own", "namespace": "late"},
        "spec": spec,
    }
    (tmp_path / f"{MODULE}.py").write_text(f"def make(stack):\n    return {made!r}\n")
    paths = (("Deployment", "spec.worker.image"),)
    record_with(run, run=f"{MODULE}:make", objects=(), content="c0ffee", images_at=paths)

    renew(run, tmp_path)

    stored = fake.objects["/apis/apps/v1/namespaces/late/deployments/own"]
    annotations = stored["spec"]["template"]["metadata"]["annotations"]
    assert stored["spec"]["worker"]["image"] == "localhost/web:1f"
    assert annotations[CONTENT_ANNOTATION] == "c0ffee"
    assert "/api/v1/namespaces/late" in fake.objects

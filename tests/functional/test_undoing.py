"""What tests changed is undone: after a failure, by another worker, at the end of the run."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

HEAD = """
import signal

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}}


def replicas(kindinfra):
    path = "/apis/apps/v1/namespaces/default/deployments/api"
    return kindinfra.api.get(path)["spec"].get("replicas", 1)


def is_there(kindinfra):
    return kindinfra.api.get("/api/v1/namespaces/default/configmaps/own") is not None
"""

FAILING = """
@pytest.mark.kindinfra("api")
def test_1_fails(kindinfra, kindinfra_apply):
    kindinfra.scale("api", 3)
    kindinfra_apply(MAP)
    assert (replicas(kindinfra), is_there(kindinfra)) == (3, True)
    assert False

@pytest.mark.kindinfra("api")
def test_2_finds_all_as_it_was(kindinfra):
    assert (replicas(kindinfra), is_there(kindinfra)) == (1, False)
"""

KILLED = """
@pytest.mark.kindinfra("api", lock="api")
def test_1_is_killed(kindinfra, kindinfra_apply):
    kindinfra.scale("api", 3)
    kindinfra_apply(MAP)
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.kindinfra("api", lock="api")
@pytest.mark.parametrize("number", range(3))
def test_2_finds_all_as_it_was(kindinfra, number):
    assert (replicas(kindinfra), is_there(kindinfra)) == (1, False)
"""

LAST = """
@pytest.mark.kindinfra("api")
def test_is_killed(kindinfra):
    kindinfra.scale("api", 3)
    os.kill(os.getpid(), signal.SIGKILL)
"""

INTERRUPTED = """
@pytest.mark.kindinfra("api")
def test_is_interrupted(kindinfra):
    kindinfra.scale("api", 3)
    note("scaled")
    await_gate("never")
"""

HOOK = """
def pytest_kindinfra_before_deploy(stack, service):
    stack.apply("own.yaml")
"""

OF_A_HOOK = """
@pytest.mark.kindinfra("api")
def test_finds_it(kindinfra):
    assert is_there(kindinfra)
"""


@pytest.fixture
def api(project: Project) -> Project:
    """A project with one service, whose manifest says how many replicas there are."""
    project.service("api")
    manifest = project.folder / "api.yaml"
    written = manifest.read_text().replace("spec:\n  sel", "spec:\n  replicas: 1\n  sel", 1)
    manifest.write_text(written)
    return project


@pytest.mark.parametrize("workers", [None, 1])
def test_a_failed_test_leaves_nothing(api: Project, workers: int | None) -> None:
    api.tests(HEAD + FAILING)

    assert api.run(workers=workers).outcomes == {"passed": 1, "failed": 1}


def test_what_a_killed_worker_changed_is_undone_by_the_next_test(api: Project) -> None:
    api.tests(HEAD + KILLED)

    assert api.run(workers=2).outcomes == {"passed": 3, "failed": 1}


def test_what_is_left_at_the_end_is_undone_in_a_cluster_that_stays(api: Project) -> None:
    api.tests(HEAD + LAST)

    run = api.run("--kindinfra-keep=always", "--max-worker-restart=0", workers=1)

    path = "/apis/apps/v1/namespaces/default/deployments/api"
    assert run.outcomes == {"failed": 1}
    assert api.clusters.made[-1].objects[path]["spec"]["replicas"] == 1
    (line,) = run.lines("kindinfra: undoing what the test ")
    assert line.endswith('::test_is_killed changed in service "api" (scaled), 30 s at most')


@pytest.mark.parametrize(
    ("option", "replicas"), [("--kindinfra-reuse", 1), ("--kindinfra-keep=always", 3)]
)
def test_after_an_interrupt_a_reused_cluster_is_tidied_up_and_one_that_is_kept_is_not(
    api: Project, option: str, replicas: int
) -> None:
    """It used to take as long as the service has to get ready, without a word."""
    api.tests(HEAD + INTERRUPTED)
    running = api.start(option, workers=None)
    running.until_at("scaled")
    running.signal(signal.SIGINT)

    run = running.finish()

    path = "/apis/apps/v1/namespaces/default/deployments/api"
    assert run.code == 2, run.text
    assert api.clusters.made[-1].objects[path]["spec"]["replicas"] == replicas
    assert len(run.lines('changed in service "api" (scaled), 5 s at most')) == (replicas == 1)


def test_a_hook_applies_files_of_the_rootdir_and_they_stay(api: Project) -> None:
    """Hooks get the same stack as tests, in pytest's process."""
    api.write("conftest.py", HOOK)
    api.write("own.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own}\n")
    api.tests(HEAD + OF_A_HOOK)

    run = api.run()

    assert run.outcomes == {"passed": 1}, run.text

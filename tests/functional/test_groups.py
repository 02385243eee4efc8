"""Runs of several projects that share one stack in an existing cluster."""

from __future__ import annotations

import os
import re
import shlex
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
import yaml

from pytest_kindinfra.state.runnames import group_id
from tests.fake_kubernetes import FakeKubernetes
from tests.functional.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = ("--kindinfra-kubeconfig=kube.yaml", "--kindinfra-group=ci-7")
NAMESPACE = group_id("ci-7")
WORKLOADS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
TESTS = """
import urllib.request

@pytest.mark.kindinfra("store")
def test_store(kindinfra):
    assert urllib.request.urlopen(kindinfra.url("store")).read() == b"here"
    note("ready")
    await_gate("both")
"""


class Web(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def kubernetes() -> Iterator[FakeKubernetes]:
    with FakeKubernetes() as fake, ThreadingHTTPServer(("127.0.0.1", 0), Web) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.01,))
        thread.start()
        fake.ports["", 8080] = web.server_port
        yield fake
        web.shutdown()
        thread.join()


@pytest.fixture
def machines(tmp_path: Path, kubernetes: FakeKubernetes) -> Iterator[tuple[Project, Project]]:
    """Two checkouts, as on two machines, each with its own home and temporary folder."""
    folders = [tmp_path / name for name in ("one", "two")]
    one, two = (Project(folder, temporary=folder / "tmp") for folder in folders)
    for project in (one, two):
        kubernetes.write_kubeconfig(project.folder / "kube.yaml")
        for program in ("docker", "kind"):
            project.remove(program)
        project.service("store")
        project.tests(TESTS)
    with one, two:
        yield one, two


def writes(kubernetes: FakeKubernetes, method: str, path: str) -> int:
    return sum(1 for sent, to in kubernetes.requests if (sent, to) == (method, path))


def test_two_runs_deploy_once_and_the_last_one_tears_down(
    machines: tuple[Project, Project], kubernetes: FakeKubernetes
) -> None:
    first, second = (one.start(*OPTIONS, HOME=str(one.folder)) for one in machines)
    first.until_at("ready")
    second.until_at("ready")
    machines[0].open("both")
    one = first.finish()
    there = f"{WORKLOADS}/store" in kubernetes.objects
    machines[1].open("both")
    two = second.finish()

    assert (one.code, one.outcomes) == (0, {"passed": 1}), one.text
    assert (two.code, two.outcomes) == (0, {"passed": 1}), two.text
    assert there, one.text
    assert writes(kubernetes, "PATCH", f"{WORKLOADS}/store") == 1
    assert writes(kubernetes, "DELETE", f"/api/v1/namespaces/{NAMESPACE}") == 1, two.text
    assert f"/api/v1/namespaces/{NAMESPACE}" not in kubernetes.objects


def test_another_run_takes_over_from_one_that_was_killed(
    machines: tuple[Project, Project], kubernetes: FakeKubernetes
) -> None:
    one, two = machines
    kubernetes.ready_after = 600.0  # the first one waits for its pods when it is killed
    first = one.start(*OPTIONS, HOME=str(one.folder))
    first.until(lambda: f"{WORKLOADS}/store" in kubernetes.objects)
    second = two.start(*OPTIONS, HOME=str(two.folder))
    members = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/kindinfra-member-"
    second.until(lambda: sum(path.startswith(members) for path in [*kubernetes.objects]) == 2)
    first.kill()
    first.finish()
    kubernetes.ready_after = 0.0
    kubernetes.delete(f"{WORKLOADS}/store")
    two.open("both")

    run = second.finish()

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert f"/api/v1/namespaces/{NAMESPACE}" not in kubernetes.objects


def test_a_failure_is_the_failure_of_every_run(
    machines: tuple[Project, Project], kubernetes: FakeKubernetes
) -> None:
    kubernetes.fail("PATCH", f"{WORKLOADS}/store", 422, "no such field", times=1)
    for one in machines:
        one.tests(TESTS + "\ndef test_free():\n    await_gate('both')\n")
    options = (*OPTIONS, "--kindinfra-order=collected")
    runs = [one.start(*options, HOME=str(one.folder)) for one in machines]
    for running in runs:
        running.until_at("error test_store")
    for one in machines:
        one.open("both")
    ended = [run.finish() for run in runs]

    for run in ended:
        assert run.code == 1, run.text
        assert "no such field" in run.text
    assert writes(kubernetes, "PATCH", f"{WORKLOADS}/store") == 1


def test_the_group_is_left_for_a_provisioner_that_was_killed(
    machines: tuple[Project, Project], kubernetes: FakeKubernetes
) -> None:
    project, _ = machines
    running = project.start(*OPTIONS, HOME=str(project.folder))
    running.until_at("ready")
    provisioner = running.provisioner()
    assert provisioner is not None
    os.kill(provisioner, signal.SIGKILL)
    running.until(lambda: running.provisioner() is None)
    project.open("both")

    run = running.finish()

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert "the process that brings the stack up, ended before the run did" in run.text
    assert f"/api/v1/namespaces/{NAMESPACE}" not in kubernetes.objects, run.text
    members = [path for path in kubernetes.objects if "/kindinfra-member-" in path]
    assert members == []


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "shards.md"
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_RUN_ID": "7001",
    "GITHUB_RUN_ATTEMPT": "1",
    "GITHUB_REPOSITORY": "acme/shop",
}
GITLAB = {"GITLAB_CI": "true", "CI_PIPELINE_ID": "7001", "CI_SERVER_HOST": "git.example"}


def blocks(language: str) -> list[str]:
    text = PAGE.read_text("utf-8")
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def commands(service: str) -> list[str]:
    """Return what each job of a recipe runs at last, with what its service puts into the line."""
    github, gitlab = (yaml.safe_load(text) for text in blocks("yaml"))
    if service == "GitHub":
        job = github["jobs"]["e2e"]
        (*_, last), matrix = job["steps"], job["strategy"]["matrix"]["tests"]
        return [last["run"].replace("${{ matrix.tests }}", tests) for tests in matrix]
    job = gitlab["e2e"]
    (cell,) = job["parallel"]["matrix"]
    last = job["script"][-1].replace('"$TEST_CLUSTER"', "cluster.kubeconfig")
    return [last.replace('"$TESTS"', tests) for tests in cell["TESTS"]]


@pytest.mark.parametrize(
    ("service", "variables", "more"),
    [
        pytest.param("GitHub", GITHUB, [], id="GitHub"),
        pytest.param("GitLab", GITLAB, [], id="GitLab"),
        pytest.param("GitLab", GITLAB, ["--kindinfra-group=off"], id="switched off"),
    ],
)
def test_the_jobs_of_a_recipe_share_a_stack_unless_that_is_switched_off(
    machines: tuple[Project, Project],
    kubernetes: FakeKubernetes,
    service: str,
    variables: dict[str, str],
    more: list[str],
) -> None:
    (declared,) = blocks("toml")
    runs = []
    for one, line in zip(machines, commands(service), strict=False):
        program, workers, number, *words = shlex.split(line)
        assert (program.rpartition("/")[2], workers, number) == ("pytest", "-n", "4")
        # The registry of images needs an engine.
        one.declare(dedent(declared).partition("[images]")[0])
        (one.folder / "test_it.py").unlink()
        one.tests(TESTS, f"{words[-1]}/test_part.py")
        kubernetes.write_kubeconfig(one.folder / "cluster.kubeconfig")
        home = str(one.folder)
        runs.append(one.start(*more, *words, workers=0, within=(), HOME=home, **variables))
    for running in runs:
        running.until_at("ready")
    for one in machines:
        one.open("both")
    ended = [run.finish() for run in runs]

    deployed = [
        path
        for method, path in kubernetes.requests
        if method == "PATCH" and path.endswith("/deployments/store")
    ]
    for run in ended:
        assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
        assert ("this run shares its stack with all runs of the same" in run.text) == (not more)
    assert len(deployed) == (2 if more else 1)
    assert ("/kindinfra-group-7001-" in deployed[0]) == (not more)


def test_gc_deletes_the_stack_of_a_group_that_no_run_holds_without_an_engine(
    machines: tuple[Project, Project], kubernetes: FakeKubernetes
) -> None:
    marks = {"dev.kindinfra/run": NAMESPACE, "dev.kindinfra/owner": "somebody"}
    kubernetes.put(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": marks}}
    )

    done = machines[0].command("gc", "--kubeconfig", "kube.yaml")

    assert (done.returncode, done.stdout) == (0, f"deleted namespace {NAMESPACE}\n"), done.stderr
    assert f"/api/v1/namespaces/{NAMESPACE}" not in kubernetes.objects


def test_a_group_without_an_existing_cluster_is_a_usage_error(project: Project) -> None:
    project.service("store")
    project.tests(TESTS)

    run = project.run("--kindinfra-group=ci-7", "--kindinfra-keep=always")

    assert run.code == 4, run.text
    assert (
        "--kindinfra-group shares a stack among runs in an existing cluster, but none" in run.text
    )
    assert "--kindinfra-keep keeps it" in run.text
    assert run.calls("create") == []

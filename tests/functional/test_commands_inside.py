"""`kindinfra url`, `exec`, `restart`, `kubectl`, `logs -f`: into the services of the cluster."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

REUSE = "--kindinfra-reuse"

POD = """
apiVersion: v1
kind: Pod
metadata: {name: tool, labels: {app: tool}}
spec:
  containers:
    - name: tool
      image: quay.io/tool:1
      readinessProbe: {httpGet: {path: /, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: tool}
spec: {selector: {app: tool}, ports: [{port: 8080}]}
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True, toml="endpoints.admin = { port = 8080 }\n")
    project.service("migrations", kind="Job")
    project.tests("@pytest.mark.kindinfra('api', 'migrations')\ndef test_it(): ...\n")
    assert project.run(REUSE, workers=None).code == 0
    return project


class TestUrl:
    def test_of_the_first_endpoint_or_of_one_by_name(self, shop: Project) -> None:
        first, admin = shop.command("url", "api"), shop.command("url", "api", "admin")

        assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", first.stdout)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", admin.stdout)
        assert first.stdout != admin.stdout

    def test_what_is_not_there_is_named(self, shop: Project) -> None:
        service, endpoint = shop.command("url", "apy"), shop.command("url", "api", "admn")
        none = shop.command("url", "migrations")

        assert (service.returncode, endpoint.returncode, none.returncode) == (1, 1, 1)
        assert 'has no service "apy"; it has: api, migrations\n' in service.stderr
        assert endpoint.stderr == (
            'kindinfra: service "api" has no endpoint "admn"; did you mean "admin"?\n'
        )
        assert none.stderr == 'kindinfra: service "migrations" has no endpoints\n'

    def test_from_a_subfolder(self, shop: Project) -> None:
        done = shop.command("url", "api", within="api")

        assert done.stdout.startswith("http://127.0.0.1:")
        assert done.stderr == f"kindinfra: using the declaration in {shop.folder}\n"


class TestExec:
    def test_output_and_exit_code_are_passed_on(self, shop: Project) -> None:
        shop.clusters.made[-1].execs = lambda _, words, __: (3, " ".join(words), "oh")

        done = shop.command("exec", "api", "--", "ls", "-l", "--", "/x")

        assert (done.returncode, done.stdout, done.stderr) == (3, "ls -l -- /x", "oh")

    def test_standard_input_is_passed_on_if_wanted(self, shop: Project) -> None:
        shop.clusters.made[-1].execs = lambda _, __, given: (0, given.decode().upper(), "")

        with_it = shop.command("exec", "-i", "api", "--", "cat", given="hello")
        without = shop.command("exec", "api", "--", "cat", given="hello")

        assert (with_it.stdout, without.stdout) == ("HELLO", "")

    def test_a_service_without_a_ready_pod(self, shop: Project) -> None:
        kube = shop.clusters.made[-1]
        kube.delete("/apis/apps/v1/namespaces/default/deployments/api")

        done = shop.command("exec", "api", "--", "ls")

        assert done.returncode == 1
        assert done.stderr == (
            'kindinfra: service "api": it has no pods\n'
            "To fix: kindinfra status, kindinfra logs api\n"
        )

    def test_a_container_that_is_not_there(self, shop: Project) -> None:
        done = shop.command("exec", "-c", "apy", "api", "--", "ls")

        assert 'has no container "apy"; did you mean "api"?' in done.stderr

    def test_a_reader_that_ends_first_ends_it(self, shop: Project) -> None:
        """It used to be a traceback."""
        shop.clusters.made[-1].execs = lambda *_: (0, "line\n" * 200_000, "")

        done = shop.command_until("line", "exec", "api", "--", "cat", "/log")

        assert (done.returncode, done.stderr) == (141, "")

    def test_no_command_is_a_wrong_call(self, shop: Project) -> None:
        done = shop.command("exec", "api")

        assert done.returncode == 2
        assert "usage: kindinfra exec SERVICE -- CMD ..." in done.stderr


class TestRestart:
    def test_the_pods_are_new_and_the_service_is_ready(self, shop: Project) -> None:
        kube = shop.clusters.made[-1]
        before = {pod["metadata"]["uid"] for pod in kube.pods_of("api")}

        done = shop.command("restart", "api")

        after = {pod["metadata"]["uid"] for pod in kube.pods_of("api")}
        assert (done.returncode, done.stdout) == (0, "api: restarted Deployment api\n"), done.stderr
        assert after
        assert after & before == set()
        assert shop.command("status").returncode == 0

    def test_a_bare_pod_is_made_anew(self, shop: Project) -> None:
        """It used to be left as it was, though a test's `restart` makes it anew."""
        kube = shop.clusters.made[-1]
        shop.declare("""
            [services.tool]
            manifests = ["tool.yaml"]
            endpoints.http = { port = 8080 }
        """)
        shop.write("tool.yaml", POD)
        assert shop.command("up", "tool").returncode == 0
        (before,) = (pod["metadata"]["uid"] for pod in kube.pods_of("tool"))

        done = shop.command("restart", "tool")

        (after,) = (pod["metadata"]["uid"] for pod in kube.pods_of("tool"))
        assert (done.returncode, done.stdout) == (0, "tool: restarted Pod tool\n"), done.stderr
        assert after != before

    def test_a_service_whose_state_is_damaged_is_brought_up_again(self, shop: Project) -> None:
        """It used to be `has no service "api"; it has: api`."""
        (name,) = shop.standing()
        file = shop.folder / ".kindinfra" / "reused" / name / "state" / "deployed-api.json"
        file.write_text("{")

        done = shop.command("restart", "api")
        up = shop.command("up", "api")

        assert done.returncode == 1
        assert done.stderr.startswith(f'kindinfra: service "api" in cluster "{name}": ')
        assert done.stderr.endswith("\nTo fix: kindinfra up\n")
        assert up.returncode == 0, up.stderr
        assert shop.command("restart", "api").returncode == 0

    def test_what_runs_once_is_left_as_it_is(self, shop: Project) -> None:
        done = shop.command("restart", "migrations")

        assert done.returncode == 1
        assert done.stderr == (
            'kindinfra: service "migrations" has nothing that can be restarted: Job migrations\n'
            "To fix: a Job runs again with `kindinfra up` after a change of its manifest\n"
        )

    def test_one_that_does_not_come_back_is_a_failure(self, shop: Project) -> None:
        shop.breaks("api", {"state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}})

        done = shop.command("restart", "api")

        assert done.returncode == 1
        assert "ErrImagePull" in done.stderr


class TestKubectl:
    def test_it_gets_the_kubeconfig_and_the_namespace(self, shop: Project) -> None:
        path = shop.fakes / "bin" / "kubectl"
        path.write_text('#!/bin/sh\necho "$KUBECONFIG" "$@"\nexit 7\n')
        path.chmod(0o755)

        done = shop.command("kubectl", "get", "pods", "-o", "name", "--help")
        flag_first = shop.command("kubectl", "--help")

        (name,) = shop.standing()
        kubeconfig = shop.folder / ".kindinfra" / "reused" / name / "kubeconfig"
        assert done.returncode == 7
        assert done.stdout == f"{kubeconfig} --namespace=default get pods -o name --help\n"
        assert flag_first.stdout.startswith("usage: kindinfra kubectl")

    def test_it_is_missing(self, shop: Project) -> None:
        done = shop.command("kubectl", "get", "pods")

        assert done.returncode == 1
        assert '"kubectl" is not on PATH' in done.stderr
        assert "https://kubernetes.io/docs/tasks/tools/" in done.stderr


class TestFollowingLogs:
    def test_lines_of_all_containers_until_ctrl_c(self, shop: Project) -> None:
        shop.clusters.logs["api"] = "listening\n"
        kube = shop.clusters.made[-1]
        running = shop.begin_command("logs", "-f")

        running.until_said("api api-1-0 api | listening\n")
        kube.logs["api"] = "listening again\n"
        assert shop.command("restart", "api").returncode == 0
        running.until_said("| listening again\n")
        running.signal(signal.SIGINT)

        assert running.finish().code == 130

    def test_it_ends_with_its_reader(self, shop: Project) -> None:
        """`kindinfra logs -f | grep -m1 listening` used to go on for ever."""
        shop.clusters.logs["api"] = "listening\n"

        done = shop.command_until("listening", "logs", "-f")

        assert (done.returncode, done.stderr) == (0, "")

    def test_of_one_service_that_is_not_there(self, shop: Project) -> None:
        done = shop.command("logs", "-f", "apy")

        assert done.returncode == 1
        assert 'has no service "apy"; it has: api, migrations\n' in done.stderr

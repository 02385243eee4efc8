"""`kindinfra url`, `exec`, `restart`, `kubectl`, `logs -f`: into the services of the cluster."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

REUSE = "--kindinfra-reuse"

WITHOUT_READER = """
import os
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
from pytest_kindinfra.cli import main
raise SystemExit(main())
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

    def test_a_reader_that_is_gone_ends_it_without_a_traceback(self, shop: Project) -> None:
        """`kindinfra exec api -- yes | head` ended with a traceback of BrokenPipeError."""
        shop.clusters.made[-1].execs = lambda _, __, ___: (0, "y\n" * 9, "")

        done = shop.python("-c", WITHOUT_READER, "exec", "api", "--", "yes")

        assert (done.returncode, done.stderr) == (141, "")

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

    def test_what_runs_once_is_left_as_it_is(self, shop: Project) -> None:
        done = shop.command("restart", "migrations")

        assert done.returncode == 1
        assert done.stderr == (
            'kindinfra: service "migrations" has nothing that can be restarted: Job migrations\n'
            "To fix: what runs once runs again with `kindinfra up` after a change\n"
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

    def test_of_one_service_that_is_not_there(self, shop: Project) -> None:
        done = shop.command("logs", "-f", "apy")

        assert done.returncode == 1
        assert 'has no service "apy"; it has: api, migrations\n' in done.stderr

"""The `kindinfra` command line itself: version, overview, JSON, completion, subfolders."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra import __version__

if TYPE_CHECKING:
    from tests.functional.project import Project

REUSE = "--kindinfra-reuse"


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("api", image=True)
    project.service("web", image=True, needs=("api",))
    project.tests("@pytest.mark.kindinfra('web')\ndef test_it(): ...\n")
    return project


class TestWithoutAWord:
    def test_the_help_and_the_state_of_the_folder(self, shop: Project) -> None:
        before = shop.command()
        shop.run(REUSE, workers=None)
        after = shop.command(within="api")

        help_, _, state = before.stdout.partition("this folder:\n")
        assert before.returncode == 0
        assert help_.startswith("usage: kindinfra [-h] [--version] COMMAND ...")
        assert state.splitlines() == [
            f"  declaration  {shop.folder}/kindinfra.toml: 2 services, 2 images",
            f"  cluster      none ({cluster_of(after.stdout)} will be created by kindinfra up)",
        ]
        assert re.sub(r"/\d+-\d+-\w+", "/RUN", after.stdout.partition("this folder:\n")[2]) == (
            f"  declaration  {shop.folder}/kindinfra.toml: 2 services, 2 images\n"
            f"  cluster      {cluster_of(after.stdout)}: api, web\n"
            "               kindinfra status shows which services are ready\n"
            f"  last run     passed: {shop.folder}/.kindinfra/RUN\n"
        )

    def test_a_folder_without_a_declaration(self, project: Project) -> None:
        done = project.command()

        assert done.returncode == 0
        assert done.stdout.splitlines()[-2:] == [
            f"  declaration  none in {project.folder} or above",
            "               To begin: kindinfra init",
        ]

    def test_a_wrong_declaration_and_a_failed_run(self, shop: Project) -> None:
        shop.behave("build api", exit=1)
        shop.run(workers=None)
        failed = shop.command()
        shop.declare("[services.web2]\nimages = 'x'\n[cluster]\nnodes = 3")
        wrong = shop.command()

        assert "last run     failed (" in failed.stdout
        assert "  declaration  3 problems in " in wrong.stdout
        assert wrong.returncode == 0

    def test_an_engine_that_does_not_answer(self, shop: Project) -> None:
        shop.remove("docker")

        done = shop.command()

        assert done.returncode == 0
        assert "  cluster      unknown: " in done.stdout


def cluster_of(text: str) -> str:
    found = re.search(r"cluster +(kindinfra-[\w-]+)", text)
    assert found, text
    return found[1]


def test_the_version(project: Project) -> None:
    assert project.command("--version").stdout == f"kindinfra {__version__}\n"


def test_a_wrong_word_is_exit_code_2(project: Project) -> None:
    done = project.command("bild")

    assert done.returncode == 2
    assert "invalid choice: 'bild'" in done.stderr


class TestJson:
    def test_the_plan(self, shop: Project) -> None:
        done = shop.command("plan", "--json")

        plan = json.loads(done.stdout)
        assert plan["cluster"] == {
            "name": None,
            "kubeconfig": None,
            "node_image": None,
            "engine": "docker",
            "engine_answers": True,
            "namespace": "default",
        }
        api = plan["images"]["api"]
        assert (api["in_engine"], api["reference"]) == (False, api["context"])
        assert api["context"].startswith("localhost/api:ctx-")
        assert plan["services"][1] == {
            "name": "web",
            "needs": {"api": "ready"},
            "images": ["web"],
            "before": None,
            "per": None,
            "namespace": "default",
        }
        assert plan["endpoints"]["api"]["http"].keys() == {"host_port", "node_port"}

    def test_the_status(self, shop: Project) -> None:
        none = shop.command("status", "--json")
        shop.run(REUSE, workers=None)
        kube = shop.clusters.made[-1]
        kube.delete("/apis/apps/v1/namespaces/default/deployments/web")
        there = shop.command("status", "--json")

        assert (none.returncode, there.returncode) == (1, 1)
        assert json.loads(none.stdout)["problem"].startswith("there is no cluster")
        status = json.loads(there.stdout)
        assert status["services"]["api"]["ready"] is True
        assert status["services"]["web"]["why"] == "Deployment web is gone"
        assert status["services"]["api"]["endpoints"]["http"].startswith("http://127.0.0.1:")
        assert status["kubeconfig"].endswith("/kubeconfig")

    def test_the_doctor(self, shop: Project) -> None:
        shop.remove("kind")

        done = shop.command("doctor", "--json")

        found = {one["what"]: one for one in json.loads(done.stdout)["findings"]}
        assert done.returncode == 1
        assert found["kind"]["state"] == "missing"
        assert found["kind"]["fix"]
        assert found["engine"]["said"] == "docker 28.0.0"

    def test_what_gc_did(self, shop: Project) -> None:
        done = shop.command("gc", "--json", "--images")

        record = json.loads(done.stdout)
        assert done.returncode == 0
        assert record["clusters"] == [
            {
                "engine": "docker",
                "deleted": [],
                "unclear": {},
                "failed": {},
                "commands": {},
                "registry": False,
                "problem": "",
            }
        ]
        assert record["images"] == [
            {"engine": "docker", "days": 7.0, "removed": [], "left": {}, "problem": ""}
        ]

    def test_what_gc_did_is_said_though_a_later_part_fails(self, shop: Project) -> None:
        """The clusters that it had deleted were not named, only the images' failure."""
        running = shop.start(workers=None)
        running.until_at("ready web")
        running.kill()
        running.finish()
        (cluster,) = shop.standing()
        shop.behave("image ls", exit=1, complains="no answer")

        done = shop.command("gc", "--images")
        record = json.loads(shop.command("gc", "--images", "--json").stdout)

        assert done.returncode == 1
        assert done.stdout == (
            f"deleted cluster {cluster}\n"
            "images of docker: a command failed: exit code 1\n"
            "  $ docker image ls --quiet --no-trunc --filter label=dev.kindinfra.image\n"
            "    no answer\n"
        )
        assert "no answer" in record["images"][0]["problem"]


def test_the_doctor_shows_a_finding_before_it_looks_at_the_next(shop: Project) -> None:
    """It was silent until all had been looked at, for up to a minute if an engine hung."""
    shop.behave("kind version", until="kind answers")
    running = shop.begin_command("doctor")
    running.until_said("docker 28.0.0")
    shop.open("kind answers")

    assert "kind" in running.finish().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_names_commands_and_flags(project: Project, shell: str) -> None:
    done = project.command("completion", shell)

    assert done.returncode == 0, done.stderr
    for word in ("restart", "cluster-name", "older-than"):
        assert word in done.stdout


def test_bash_completes_a_command_by_the_script(project: Project) -> None:
    script = project.command("completion", "bash").stdout
    ask = "\nCOMP_WORDS=(kindinfra rest); COMP_CWORD=1; COMP_LINE='kindinfra rest'"
    ask += "\n_shtab_kindinfra kindinfra rest kindinfra; echo ${COMPREPLY[@]}"

    done = subprocess.run(
        ["/bin/bash", "-c", script + ask], capture_output=True, text=True, check=False
    )

    assert done.stdout == "restart\n", done.stderr

"""`--kindinfra-plan` and `kindinfra plan`: what a run would do, and nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

PLAN = "--kindinfra-plan"
TESTS = """
@pytest.mark.kindinfra("web")
def test_web(): note("called")

def test_free(): note("called")
"""


@pytest.fixture
def shop(project: Project) -> Project:
    project.service("db")
    project.service("web", image=True, needs=("db",))
    project.tests(TESTS)
    return project


def masked(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{16}\b", "TAG", re.sub(r"\d{8}-\d{6}-[0-9a-f]{6}", "RUN", text))


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("how", [(), ("-q",), ("-x", "-v"), ("--collect-only",), ("-s",)])
def test_it_runs_no_test_and_ends_cleanly(
    shop: Project, how: tuple[str, ...], workers: int | None
) -> None:
    run = shop.run(PLAN, *how, workers=workers)

    assert run.code == 0, run.text
    assert run.notes == []
    assert run.lines("  web                  localhost/web:")
    assert "Exit" not in run.text
    assert "!!!" not in run.text
    assert {call.what for call in run.all_calls} <= {"docker version", "image inspect"}
    assert not (shop.folder / ".kindinfra").exists()


@pytest.mark.parametrize("workers", [None, 2])
def test_it_runs_no_test_if_none_needs_anything(shop: Project, workers: int | None) -> None:
    run = shop.run(PLAN, "-k", "free", workers=workers)

    assert run.code == 0, run.text
    assert run.notes == []
    assert run.lines("kindinfra: no selected test needs a cluster: none would be created")


@pytest.mark.parametrize("where", ["environment", "file"])
def test_it_may_be_asked_for_elsewhere(shop: Project, where: str) -> None:
    if where == "file":
        shop.declare("[options]\nplan = true")

    run = shop.run(workers=2, **({"KINDINFRA_PLAN": "1"} if where == "environment" else {}))

    assert (run.code, run.notes) == (0, []), run.text
    assert run.lines("  web                  localhost/web:")


@pytest.mark.parametrize("workers", [None, 2])
def test_exit_codes_are_those_of_pytest(shop: Project, workers: int | None) -> None:
    nothing = shop.run(PLAN, "-k", "nothing", workers=workers)
    shop.tests("raise ValueError('broken')", "test_broken.py")
    broken = shop.run(PLAN, workers=workers)
    wrong = shop.run(PLAN, "test_it.py", "--kindinfra-keep=sometimes", workers=workers)

    assert nothing.code == 5, nothing.text
    assert broken.code == 2, broken.text
    assert "ValueError: broken" in broken.text
    assert wrong.code == 4, wrong.text
    assert nothing.notes == broken.notes == wrong.notes == []


def test_problems_are_told_as_in_a_run(shop: Project) -> None:
    shop.declare("[services.lost]\nmanifests = ['gone.yaml']")

    run = shop.run(PLAN, workers=2)

    assert run.code == 4, run.text
    assert '"gone.yaml": no such file' in run.text
    assert run.notes == []


def test_it_shows_the_cluster_the_images_of_others_and_what_the_engine_has(shop: Project) -> None:
    shop.declare("[cluster]\nnode_image = 'kindest/node:v1.34.4'")
    before = masked(shop.run(PLAN, workers=None).out)
    shop.command("build")
    shop.host_image("quay.io/db:1")
    after = masked(shop.run(PLAN, "--kindinfra-cluster-name=e2e", workers=None).out)
    command = masked(shop.command("plan").stdout)
    shop.remove("docker")
    without = masked(shop.run(PLAN, workers=None).out)

    cluster = (
        "cluster:\n"
        "  name                 kindinfra-RUN (a new name for each run)\n"
        "  node image           kindest/node:v1.34.4\n"
        "  engine               docker\n"
    )
    assert cluster in before
    assert "  web                  localhost/web:ctx-TAG (to be built)\n" in before
    assert "external images:\n  quay.io/db:1 (pulled by the kind node)\n" in before
    assert "  name                 e2e\n" in after
    assert "  web                  localhost/web:TAG (in the engine)\n" in after
    assert "  quay.io/db:1 (in the engine)\n" in after
    assert cluster.replace("RUN", "RUN_ID") in command
    assert "  quay.io/db:1 (in the engine)\n" in command
    assert "  engine               docker, which does not answer\n" in without
    assert "  web                  localhost/web:ctx-TAG\n" in without
    assert "external images:\n  quay.io/db:1\n" in without

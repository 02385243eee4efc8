"""Services that hooks add are brought up as declared ones are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

HOOK = """
from pytest_kindinfra import Image, Need, Service


def pytest_kindinfra_services(config):
    return [
        Image(name="app", context="app", build_args={"VERSION": "7"}),
        Service(name="app", images=["app"], manifests=["app.yaml"], needs=NEEDS),
        Service(name="seed", run="seed:fill", needs=("app",)),
    ]
"""


@pytest.mark.parametrize("needs", ['("db:started",)', '[Need(name="db", level="started")]'])
def test_a_service_of_a_hook_may_need_others(project: Project, needs: str) -> None:
    project.service("db")
    project.manifest("app", image="app")
    project.write("app/Dockerfile", "FROM scratch\nARG VERSION\n")
    project.write("seed.py", "from story import note\ndef fill(stack):\n    note('filled')\n")
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", f"{conftest}\n{HOOK.replace('NEEDS', needs)}")
    project.tests("""
        @pytest.mark.kindinfra("seed")
        def test_seed(): ...
    """)

    run = project.run(workers=None)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert "VERSION=7" in " ".join(run.call("build app").argv)
    assert {one["name"]: one["needs"] for one in run.report["plan"]["services"]} == {
        "db": {},
        "app": {"db": "started"},
        "seed": {"app": "ready"},
    }
    assert run.at("apply Deployment/db") < run.at("apply Deployment/app") < run.at("filled")

"""Hooks and Python steps while services come up: when they are called, and what they see."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.functional.project import Project, Run

CONFTEST = """
import urllib.request
from story import note


def pytest_kindinfra_before_deploy(stack, service):
    note(f"before {service.name} on {stack.cluster}")


def pytest_kindinfra_after_deploy(stack, service):
    if service.endpoints:
        with urllib.request.urlopen(stack.url(service.name)) as answer:
            note(f"after {service.name}, which answers {answer.status}")
    else:
        note(f"after {service.name}")
"""
STEPS = """
from story import note


def seed(stack):
    note("seed with " + stack.url("db")[:16])
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seeds"}}
    labels = {"app": "late"}
    container = {"name": "late", "image": "quay.io/late:1", "readinessProbe": {}}
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "late"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def early(stack):
    stack.url("db")
"""
TESTS = """
@pytest.fixture(scope="session")
def url():
    return os.environ["API_URL"]

@pytest.mark.kindinfra("api")
def test_api(url, kindinfra):
    assert url == kindinfra.url("api") + "/v1"
    assert os.environ["WHERE"] == "mine/shop"
    assert os.environ["EARLY"] == "theirs"
    note("variables are set")

@pytest.mark.kindinfra("early")
def test_early(): ...
"""


def with_steps(project: Project) -> Run:
    project.write("conftest.py", CONFTEST)
    project.write("steps.py", STEPS)
    project.declare('[cluster]\nnamespace = "shop"\n')
    project.service("db")
    project.declare('[services.seeds]\nrun = "steps:seed"\nneeds = ["db"]\n')
    project.declare('[services.early]\nrun = "steps:early"\n')
    project.service("api", needs=("seeds",))
    project.service("unused")
    project.declare("[env]")
    project.declare('API_URL = "{url:api}/v1"')
    project.declare('WHERE = "{cluster}/{namespace}"')
    project.declare('EARLY = "{url:unused}"')
    project.tests(TESTS)
    return project.run("--kindinfra-cluster-name=mine", workers=2, EARLY="theirs")


@pytest.fixture
def ran(run_once: Callable[[Callable[[Project], Run]], Run]) -> Run:
    return run_once(with_steps)


def test_hooks_are_called_once_before_and_once_after_each_service(ran: Run) -> None:
    told = [what for what, _, _ in ran.notes if "test_" not in what]

    assert [what for what in told if " api" in what] == [
        "before api on mine",
        "after api, which answers 200",
    ]
    assert [what for what in told if "seed" in what] == [
        "before seeds on mine",
        "seed with http://127.0.0.1",
        "after seeds",
    ]


def test_a_step_sees_the_endpoints_of_what_it_needs_and_no_others(ran: Run) -> None:
    assert ran.outcomes == {"passed": 1, "errors": 1}
    assert ran.lines("service db: not deployed yet")
    assert ran.lines("To fix: add it to `needs`")


def test_declared_variables_are_set_before_the_fixtures_of_tests(ran: Run) -> None:
    assert "variables are set" in [what for what, _, _ in ran.notes], ran.text


def test_what_a_step_returns_is_applied_where_services_go_and_waited_for(ran: Run) -> None:
    where = "/namespaces/shop"

    assert ("PATCH", f"/api/v1{where}/configmaps/seeds") in ran.requests
    assert ("PATCH", f"/apis/apps/v1{where}/deployments/late") in ran.requests
    assert ran.at("ready late") <= ran.at("after seeds") <= ran.at("before api on mine")

"""What is brought up is what the selected tests ask for, with all that it needs, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

TESTS = """
@pytest.mark.kindinfra("front")
def test_function(): ...

@pytest.mark.kindinfra("other")
class TestClass:
    def test_in_class(self): ...

    @pytest.mark.kindinfra("db")
    def test_with_more(self): ...

@pytest.mark.parametrize("which", [
    pytest.param("one", marks=pytest.mark.kindinfra("db")),
    pytest.param("two", marks=pytest.mark.kindinfra("other")),
])
def test_parameter(which): ...

def test_fixture_alone(kindinfra):
    assert kindinfra.namespace == "default"

@pytest.fixture
def indirect(kubeconfig):
    return kubeconfig

def test_indirect_alone(indirect):
    assert indirect.is_file()

def test_free(): ...
"""

MODULE = """
pytestmark = pytest.mark.kindinfra("db")

def test_of_module(): ...
"""

LAST_FAILED = """
@pytest.mark.kindinfra("other")
def test_other():
    assert os.path.exists("repaired")

@pytest.mark.kindinfra("front")
def test_front(): ...
"""


@pytest.fixture
def services(project: Project) -> Project:
    project.service("db")
    project.service("api", image=True, needs=("db",))
    project.service("front", image=True, needs=("api",))
    project.service("other", image=True)
    return project


@pytest.mark.parametrize(
    ("selection", "passed", "deployed", "built"),
    [
        (["-k", "function"], 1, ["api", "db", "front"], ["api", "front"]),
        (["-k", "in_class"], 1, ["other"], ["other"]),
        (["-k", "with_more"], 1, ["db", "other"], ["other"]),
        (["test_it.py::test_parameter[one]"], 1, ["db"], []),
        (["-k", "alone"], 2, [], []),
        (["-m", "kindinfra", "test_module.py"], 1, ["db"], []),
    ],
    ids=["function", "class", "class and function", "parameter", "fixture", "module"],
)
def test_only_what_the_selected_tests_need_is_brought_up(
    services: Project, selection: list[str], passed: int, deployed: list[str], built: list[str]
) -> None:
    services.tests(TESTS)
    services.tests(MODULE, "test_module.py")

    run = services.run(*selection, workers=None)

    assert (run.code, run.outcomes["passed"]) == (0, passed), run.text
    assert len(run.calls("create")) == 1
    assert (run.deployed, run.built) == (deployed, built)


def test_a_rerun_of_what_failed_brings_up_only_what_that_needs(services: Project) -> None:
    services.tests(LAST_FAILED)

    first = services.run()
    services.write("repaired", "")
    second = services.run("--lf")

    assert (first.code, first.outcomes) == (1, {"passed": 1, "failed": 1}), first.text
    assert first.deployed == ["api", "db", "front", "other"]
    assert (second.code, second.outcomes) == (0, {"passed": 1}), second.text
    assert second.deployed == ["other"]


def test_without_a_declaration_there_is_the_bare_cluster(project: Project) -> None:
    project.tests("def test_it(kindinfra): assert kindinfra.kubeconfig.is_file()")

    run = project.run(workers=2)

    assert (run.code, run.deployed) == (0, []), run.text
    assert len(run.calls("create")) == len(run.calls("delete")) == 1

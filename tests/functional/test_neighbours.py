"""Plugins and conftests beside us: said before anything goes wrong by chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

HOOK = """
def pytest_kindinfra_before_deploy(stack, service): ...
"""
TESTS = """
@pytest.mark.kindinfra("store")
def test_store(): ...

def test_free(): ...
"""
PYTEST_KIND = """
import pytest

@pytest.fixture(scope="session")
def kind_cluster(): ...
"""


@pytest.mark.parametrize("workers", [None, 2])
def test_a_hook_in_a_nested_conftest_is_refused_with_and_without_workers(
    project: Project, workers: int | None
) -> None:
    project.service("store")
    project.write("sub/deeper/conftest.py", HOOK)
    project.tests(TESTS, "sub/deeper/test_it.py")

    run = project.run(workers=workers)

    assert run.code == 4, run.text
    assert (
        "sub/deeper/conftest.py: pytest_kindinfra_before_deploy is never called from there under "
        "xdist; move it to the rootdir's conftest.py, to one that the arguments or testpaths "
        "name, or to a plugin"
    ) in run.text
    # With less than 50 GB free, how large an image is decides whether a run has room.
    assert [call for call in run.all_calls if call.what != "image inspect"] == []


@pytest.mark.parametrize("workers", [None, 2])
def test_a_hook_in_a_conftest_that_the_arguments_name_is_called(
    project: Project, workers: int | None
) -> None:
    project.service("store")
    project.write("sub/conftest.py", f"from story import note\n{HOOK[:-4]} note('called')\n")
    project.tests(TESTS, "sub/test_it.py")

    run = project.run("sub", workers=workers)

    assert run.code == 0, run.text
    assert [told for told, _, _ in run.notes if told == "called"] == ["called"]


def test_a_nested_hook_is_no_error_in_a_run_that_needs_no_service(project: Project) -> None:
    project.write("sub/conftest.py", HOOK)
    project.tests("def test_free(): ...", "sub/test_it.py")

    assert project.run().code == 0


@pytest.mark.parametrize("workers", [None, 2])
def test_pytest_kind_beside_us_is_warned_of_once(project: Project, workers: int | None) -> None:
    project.write("pytest_kind/__init__.py", "")
    project.write("pytest_kind/plugin.py", PYTEST_KIND)
    project.tests("def test_free(): ...")

    run = project.run("-p", "pytest_kind.plugin", "-W", "default", workers=workers)

    assert run.code == 0, run.text
    told = (
        "PytestConfigWarning: pytest-kind and pytest-kindinfra are loaded, and both have a fixture "
        "kind_cluster: add -p no:pytest_kind.plugin, or uninstall pytest-kind"
    )
    assert len(run.lines(told)) == 1, run.text

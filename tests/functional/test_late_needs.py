"""Needs that come late: found if collection can still know them, else told with the mark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

AT_RUN_TIME = """
@pytest.fixture
def client(request): return request.getfixturevalue("kindinfra").namespace

def test_by_a_fixture(client): ...

def test_by_itself(request):
    request.getfixturevalue("kindinfra").url("web")

@pytest.mark.parametrize("name", ["kubeconfig", "kind_cluster", "kindinfra_namespace"])
def test_another(request, name):
    request.getfixturevalue(name)
"""
ANOTHER = """
@pytest.mark.kindinfra("db")
def test_marked(): ...
"""
LATE_MARKS = """
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "late" in item.name:
            item.add_marker(pytest.mark.kindinfra("db"))

def pytest_itemcollected(item):
    if "collected" in item.name:
        item.add_marker(pytest.mark.kindinfra("db"))
"""


@pytest.mark.parametrize("workers", [None, 2])
def test_a_fixture_requested_at_run_time_is_an_error_that_names_the_mark(
    project: Project, workers: int | None
) -> None:
    project.service("web")
    project.tests(AT_RUN_TIME)

    run = project.run(workers=workers)

    assert (run.code, run.outcomes) == (1, {"failed": 4, "errors": 1}), run.text
    assert run.text.count("To fix: mark the test with @pytest.mark.kindinfra") == 5
    assert "ended without a result" not in run.text
    assert run.all_calls == []


@pytest.mark.parametrize("workers", [None, 2])
def test_a_fixture_asked_for_at_run_time_is_given_if_the_run_has_a_cluster(
    project: Project, workers: int | None
) -> None:
    project.service("web")
    project.service("db")
    project.tests(AT_RUN_TIME)
    project.tests(ANOTHER, "test_another.py")

    run = project.run(workers=workers)

    assert (run.code, run.outcomes) == (1, {"failed": 1, "passed": 5}), run.text
    assert 'no selected test needs service "web"; this run has: db' in run.text
    assert 'To fix: mark the test with @pytest.mark.kindinfra("web")' in run.text


@pytest.mark.parametrize("workers", [None, 2])
def test_a_failed_cluster_is_reported_at_run_time_too(
    project: Project, workers: int | None
) -> None:
    project.service("db")
    project.tests(ANOTHER, "test_another.py")
    project.tests("def test_late(request): request.getfixturevalue('kindinfra')")
    project.remove("kind")

    failed = project.run(workers=workers)
    skipped = project.run("--kindinfra-missing=skip", workers=workers)

    assert failed.outcomes == {"failed": 1, "errors": 1}, failed.text
    assert skipped.outcomes == {"skipped": 2}, skipped.text


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("name", ["test_late", "test_collected"])
def test_marks_of_late_hooks_count(project: Project, name: str, workers: int | None) -> None:
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", f"{LATE_MARKS}\n{conftest}")
    project.service("db")
    project.tests(f"def {name}(): ...\ndef test_free(): ...")

    run = project.run("-p", "no:randomly", workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 2}), run.text
    assert run.deployed == ["db"]
    assert run.at("ready db") < run.at(f"start {name}")
    if workers is None:
        assert run.at("start test_free") < run.at(f"start {name}")


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(
    "hook",
    [
        "@pytest.fixture(autouse=True)\ndef _mark(request):\n    request.node",
        "def pytest_runtest_setup(item):\n    item",
    ],
    ids=["fixture", "hook"],
)
def test_a_mark_added_while_a_test_runs_is_reported(
    project: Project, hook: str, workers: int | None
) -> None:
    conftest = (project.folder / "conftest.py").read_text()
    project.write("conftest.py", f"{conftest}\n{hook}.add_marker(pytest.mark.kindinfra('web'))\n")
    project.service("db")
    project.service("web")
    project.tests("def test_unmarked(): note('called')")

    alone = project.run(workers=workers)
    project.tests(ANOTHER, "test_another.py")
    beside = project.run(workers=workers)

    for run, said in (
        (
            alone,
            "no cluster was created, because no selected test seemed to need one at collection",
        ),
        (
            beside,
            'this run does not start "web": no selected test seemed to need it at collection; ',
        ),
    ):
        assert run.code == 1, run.text
        assert said in run.text
        assert "To fix: mark the test with @pytest.mark.kindinfra" in run.text
        assert "called" not in {what for what, *_ in run.notes}
    assert alone.all_calls == []


@pytest.mark.parametrize("workers", [None, 2])
def test_a_mark_added_by_a_fixture_is_waited_for_if_the_run_has_the_service(
    project: Project, workers: int | None
) -> None:
    project.service("db")
    project.tests("""
        @pytest.fixture
        def marked(request): request.node.add_marker(pytest.mark.kindinfra("db"))
        def test_late(marked): note("late")
    """)
    project.tests(ANOTHER, "test_another.py")

    run = project.run(workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 2}), run.text
    assert run.at("ready db") < run.at("late")


@pytest.mark.parametrize("workers", [None, 2])
def test_a_run_that_collection_errors_stop_creates_no_cluster(
    project: Project, workers: int | None
) -> None:
    project.service("db")
    project.tests(ANOTHER)
    project.tests("raise ValueError('broken')", "test_broken.py")

    run = project.run(workers=workers)

    assert run.code == 2 if workers is None else run.code in {1, 2}, run.text
    assert "ValueError: broken" in run.text
    assert run.calls("create") == []

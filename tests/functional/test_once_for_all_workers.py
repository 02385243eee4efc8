"""However a run is spread over processes, everything is done once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project, Run

TESTS = """
@pytest.mark.parametrize("number", range(6))
@pytest.mark.kindinfra("front", "api")
def test_pair(kindinfra, number):
    import urllib.request
    with urllib.request.urlopen(kindinfra.url("front")) as answer:
        assert answer.read() == b"front-http-kindinfra"
    assert kindinfra.url("api") != kindinfra.url("front")

@pytest.mark.xdist_group("one")
@pytest.mark.kindinfra("api")
def test_api(): ...

def test_free(): ...
"""


def run_with(project: Project, *arguments: str, workers: int | None) -> Run:
    project.service("db")
    project.service("api", image=True, needs=("db",))
    project.service("front", image=True, needs=("api",))
    project.tests(TESTS)
    return project.run(*arguments, workers=workers)


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [
        pytest.param((), 4, id="4 workers"),
        pytest.param((), 0, id="-n 0"),
        pytest.param((), None, id="without xdist"),
        pytest.param((), 2, id="2 workers"),
        pytest.param((), 8, id="8 workers"),
        pytest.param(("--dist", "each"), 2, id="each"),
        pytest.param(("--dist", "loadscope"), 2, id="loadscope"),
        pytest.param(("--dist", "loadfile"), 2, id="loadfile"),
        pytest.param(("--dist", "loadgroup"), 2, id="loadgroup"),
        pytest.param(("--dist", "worksteal"), 2, id="worksteal"),
    ],
)
def test_each_thing_is_done_once(
    project: Project, arguments: tuple[str, ...], workers: int | None
) -> None:
    run = run_with(project, *arguments, workers=workers)

    passed = 16 if "each" in arguments else 8
    assert (run.code, run.outcomes) == (0, {"passed": passed}), run.text
    assert run.built == ["api", "front"]
    assert len(run.calls("create")) == 1
    assert run.deployed == ["api", "db", "front"]
    assert len(run.calls("delete")) == 1
    assert run.clusters == []
    last = max(when for what, when, _ in run.notes if what.startswith("end"))
    assert run.call("delete").start > last


def test_a_run_inside_a_worker_of_another_run_provisions_for_itself(project: Project) -> None:
    project.tests("def test_it(kindinfra): ...\n")

    run = project.run(workers=None, PYTEST_XDIST_WORKER="gw7", PYTEST_XDIST_TESTRUNUID="other")

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text
    assert len(run.calls("create")) == len(run.calls("delete")) == 1

"""pytest-rerunfailures: a flaky test is run again, what was not brought up is not tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

RERUNS = ("-p", "rerunfailures", "--reruns=2")
TESTS = """
@pytest.mark.kindinfra("store")
@pytest.mark.parametrize("number", range(2))
def test_store(number): note("never")

@pytest.mark.flaky(reruns=5)
@pytest.mark.kindinfra("store")
def test_said_to_be_flaky(): note("never")

@pytest.mark.kindinfra("api")
def test_flaky(kindinfra):
    assert kindinfra.url("api")
    note("try")
    again = os.path.exists("tried")
    open("tried", "w").close()
    assert again
"""


@pytest.mark.parametrize(
    ("how", "workers"),
    [
        pytest.param(RERUNS, None, id="--reruns"),
        pytest.param(RERUNS, 2, id="2 workers"),
        pytest.param(("-p", "pytest_rerunfailures", "--force-reruns=2"), None, id="--force-reruns"),
    ],
)
def test_only_what_can_pass_another_time_is_run_again(
    project: Project, how: tuple[str, ...], workers: int | None
) -> None:
    project.service("store", image=True)
    project.service("api", image=True)
    project.behave("build store", exit=3, complains="ERROR: the compiler gave up")
    project.tests(TESTS)

    run = project.run(*how, workers=workers)

    assert (run.code, run.outcomes) == (1, {"passed": 1, "errors": 3, "rerun": 1}), run.text
    assert run.out.count('service "store" failed to start: image "store" failed to build:') == 3
    assert [what for what, *_ in run.notes if what in {"try", "never"}] == ["try", "try"]
    assert (run.built, run.deployed) == (["api", "store"], ["api"])
    assert len(run.calls("create")) == len(run.calls("delete")) == 1

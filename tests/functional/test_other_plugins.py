"""Plugins that people have beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

TIMEOUT = ("-p", "pytest_timeout", "--timeout=1")


@pytest.mark.parametrize("method", ["signal", "thread"])
@pytest.mark.parametrize("workers", [None, 2])
def test_bringing_up_is_not_charged_to_the_timeout_of_the_first_test(
    project: Project, workers: int | None, method: str
) -> None:
    project.behave("create", seconds=2.5)
    project.tests("""
        @pytest.mark.kindinfra
        def test_marked(): ...
    """)

    run = project.run(*TIMEOUT, f"--timeout-method={method}", workers=workers)

    assert (run.code, run.outcomes) == (0, {"passed": 1}), run.text


def test_a_test_that_takes_too_long_itself_still_times_out(project: Project) -> None:
    project.tests("""
        import time

        @pytest.mark.kindinfra
        def test_marked():
            time.sleep(30)
    """)

    run = project.run(*TIMEOUT, "--timeout-method=signal", workers=None)

    assert (run.code, run.outcomes) == (1, {"failed": 1}), run.text
    assert len(run.calls("delete")) == 1

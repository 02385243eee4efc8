"""A run pays for the cluster only if a test that needs it is going to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.functional.project import Project

TESTS = """
@pytest.mark.kindinfra("api")
def test_api(): ...

def test_free(): ...
"""


@pytest.fixture
def marked(project: Project) -> Project:
    project.service("api", image=True)
    project.tests(TESTS)
    return project


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-k", "free"), id="-k"),
        pytest.param(("-m", "not kindinfra"), id="-m"),
        pytest.param(("--deselect", "test_it.py::test_api"), id="--deselect"),
        pytest.param(("--collect-only",), id="--collect-only"),
        pytest.param(("--setup-plan",), id="--setup-plan"),
        pytest.param(("--fixtures",), id="--fixtures"),
        pytest.param(("--fixtures-per-test",), id="--fixtures-per-test"),
        pytest.param(("--markers",), id="--markers"),
        pytest.param(("--help",), id="--help"),
    ],
)
def test_nothing_is_called_and_nothing_is_made(
    marked: Project, arguments: tuple[str, ...], workers: int | None
) -> None:
    run = marked.run(*arguments, workers=workers)

    assert run.code == 0, run.text
    assert run.all_calls == []
    assert not (marked.folder / ".kindinfra").exists()

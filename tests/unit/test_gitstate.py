"""What git says is taken as it is, and its silence too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.errors import ToolMissingError
from pytest_kindinfra.images.tags import read_git_state
from pytest_kindinfra.state.records import GitState
from pytest_kindinfra.system.runner import Completed
from tests.fakes import FakeRunner

if TYPE_CHECKING:
    from pytest_kindinfra.system.timeline import Deadline
    from tests.fakes import Argv

COMMIT = "1f" * 20
NOTHING = Completed("", "fatal: not a git repository", 128)


def asked(commit: str | Completed, status: str | Completed) -> FakeRunner:
    return FakeRunner(lambda argv: status if "status" in argv else commit)


@pytest.mark.parametrize(
    ("commit", "status", "state"),
    [
        pytest.param(f"{COMMIT}\n", "", GitState(commit=COMMIT, dirty=False), id="clean"),
        pytest.param(f"{COMMIT}\n", " M a.go\n", GitState(commit=COMMIT, dirty=True), id="changed"),
        pytest.param(
            f"{COMMIT}\n", "?? b.go\n", GitState(commit=COMMIT, dirty=True), id="new file"
        ),
        pytest.param(f"{COMMIT}\n", NOTHING, GitState(commit=COMMIT, dirty=None), id="no status"),
        pytest.param(NOTHING, "", None, id="no repository"),
        pytest.param("", "", None, id="no answer"),
    ],
)
def test_the_checkout_is_what_git_says(
    commit: str | Completed, status: str | Completed, state: GitState | None, soon: Deadline
) -> None:
    assert read_git_state(Path("/shop"), asked(commit, status), soon) == state


def test_without_git_there_is_none(soon: Deadline) -> None:
    def missing(_: Argv) -> str:
        raise ToolMissingError

    assert read_git_state(Path("/shop"), FakeRunner(missing), soon) is None


def test_it_is_asked_twice_in_the_folder_and_not_for_long(soon: Deadline) -> None:
    runner = asked(COMMIT, "")
    read_git_state(Path("/shop"), runner, soon)

    assert runner.argvs == [
        ("git", "-C", "/shop", "rev-parse", "--verify", "HEAD"),
        ("git", "-C", "/shop", "--no-optional-locks", "status", "--porcelain"),
    ]
    assert all(call.deadline.left <= 10 for call in runner.calls)

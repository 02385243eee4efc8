"""What git says of the project: the commit, and whether the tree differs from it.

It is for people who read run.json and for tags by a template; what is built is decided by content
alone. So there being no git, no repository or no answer in time is no error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kindinfra.process import Runner
    from pytest_kindinfra.timeline import Deadline

_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """A checkout.

    Attributes:
        commit: The full hash of HEAD.
        dirty: Files differ from it, or are new and not ignored; None if git did not say.
    """

    commit: str
    dirty: bool | None


def read_git_state(folder: Path, runner: Runner, deadline: Deadline) -> GitState | None:
    """Return the state of the checkout that `folder` is in, None without one."""
    commit = _ask(("rev-parse", "--verify", "HEAD"), folder, runner, deadline)
    if not commit:
        return None
    # Without optional locks, or it might be in the way of git in another terminal.
    changes = _ask(("--no-optional-locks", "status", "--porcelain"), folder, runner, deadline)
    return GitState(commit=commit, dirty=None if changes is None else bool(changes))


def _ask(words: tuple[str, ...], folder: Path, runner: Runner, deadline: Deadline) -> str | None:
    argv = ["git", "-C", str(folder), *words]
    try:
        return runner.run(argv, deadline=deadline.within(_SECONDS)).stdout.strip()
    except (KindInfraError, OSError):
        return None

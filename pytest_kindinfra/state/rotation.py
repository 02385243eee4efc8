"""Old run directories go, so that the artifacts folder does not grow forever.

Only what is provably a run's directory, and not in use: no process has its lock, and
no cluster can be found by it any more. Everything else in the folder is left alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import StateError
from pytest_kindinfra.state.clusterrecords import ClusterKept, ClusterNamed, ReusedCluster
from pytest_kindinfra.state.directory import _RUN_NAME, RunDirectory
from pytest_kindinfra.state.locks import locked_alone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_GOING = re.compile(rf"\.old-{_RUN_NAME.pattern}")
"""The name of a run directory that is just being removed."""


def rotate(artifacts: Path, *, keep: int) -> list[Path]:
    """Remove run directories until there are no more than so many, the oldest first.

    A directory that cannot be judged or removed stays; nothing is raised.

    Args:
        artifacts: Where run directories are.
        keep: How many stay, the newest ones.

    Returns:
        Those that were removed, as they were called.
    """
    try:
        _sweep(artifacts)
        old = sorted(_runs(artifacts), reverse=True)[keep:]
    except OSError:
        return []
    return [folder for folder in old if _remove(folder)]


def _runs(artifacts: Path) -> Iterator[Path]:
    """Yield the run directories of this user, by name and by what is in them."""
    for path in artifacts.iterdir():
        if _RUN_NAME.fullmatch(path.name) and _is_own_folder(path) and (path / "lock").is_file():
            yield path


def _is_own_folder(path: Path) -> bool:
    with suppress(OSError):
        return not path.is_symlink() and path.is_dir() and path.stat().st_uid == os.getuid()
    return False


def _sweep(artifacts: Path) -> None:
    """Remove what a rotation that was killed left."""
    for path in artifacts.iterdir():
        if _GOING.fullmatch(path.name) and _is_own_folder(path):
            shutil.rmtree(path, ignore_errors=True)


def _remove(folder: Path) -> bool:
    """Remove a run directory unless it is in use; it vanishes at once, and then its content."""
    try:
        with locked_alone(folder / "lock") as alone:
            if not alone or not _is_done_with(RunDirectory(folder)):
                return False
            going = folder.with_name(f".old-{folder.name}")
            folder.rename(going)
    except (OSError, StateError):
        return False
    shutil.rmtree(going, ignore_errors=True)
    return True


def _is_done_with(run: RunDirectory) -> bool:
    """Whether no cluster can be found by the directory: it made none, or that is deleted."""
    kept, named = run.read(ClusterKept), run.read(ClusterNamed)  # raises if it cannot be believed
    if kept is None and named is None:
        return True
    report = _report(run)
    if report is None:
        return False  # killed: the cluster is known by this directory alone
    return report["outcome"]["kept"] is False or _is_elsewhere(run)


def _is_elsewhere(run: RunDirectory) -> bool:
    """Whether the cluster that outlived the run is found by a reused directory.

    The run's record says so. Paths do not: the same folder may be opened through a link.
    """
    return run.read(ReusedCluster) is not None


def _report(run: RunDirectory) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        report: dict[str, Any] = json.loads((run.path / "run.json").read_text("utf-8"))
        if isinstance(report["outcome"]["kept"], bool):
            return report
    return None

"""Delete the cluster of a run, and the clusters of runs that were killed.

The latter are known by their mount, and dead by their free lock. A cluster is known by the run
directory that is mounted in its kind nodes. Only the lock in there says whether the run lives: a
process id may be another process's by now, and an age says nothing. What was kept on purpose is
never touched, nor is a cluster whose run directory tells nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import CommandError
from pytest_kindinfra.state.clusterrecords import ClusterKept, SweepBegun
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import is_locked, locked_alone
from pytest_kindinfra.state.reused import forget_name, why_unclear, why_unknown
from pytest_kindinfra.system.files import size_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.protocols.cluster import ClusterCreator
    from pytest_kindinfra.system.timeline import Deadline


_LATE = 3.0
"""Seconds in which a container may appear that was asked for before."""


_LATE_EVERY = 0.5


_DELETE_SECONDS = 120.0
"""For one cluster, so that one that hangs leaves time for the others."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of leftovers.

    Attributes:
        deleted: The clusters that were deleted.
        unclear: Cluster to why it is unknown whether it may be deleted; it is left alone.
        failed: Cluster to why it could not be deleted.
    """

    deleted: list[str] = field(default_factory=list)
    unclear: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def sweep(creator: ClusterCreator, deadline: Deadline) -> Swept:
    """Delete each cluster whose run is dead and did not keep it.

    A cluster that cannot be deleted keeps no other from it.

    Raises:
        CommandError: The engine did not say which clusters there are.
    """
    swept = Swept()
    for name, run, why in _left(creator, deadline):
        if why:
            swept.unclear[name] = why
            continue
        try:
            if _delete_alone(name, run, creator, deadline.within(_DELETE_SECONDS)):
                swept.deleted.append(name)
        except CommandError as error:
            swept.failed[name] = str(error)
        except OSError as error:  # another user's run directory, whose lock is not ours to take
            swept.unclear[name] = f"the lock of its run directory {run.path}: {error.strerror}"
    return swept


def left_behind(creator: ClusterCreator, deadline: Deadline) -> list[str]:
    """Return the clusters that `sweep` would delete."""
    return [name for name, _, why in _left(creator, deadline) if not why]


def _left(creator: ClusterCreator, deadline: Deadline) -> Iterator[tuple[str, RunDirectory, str]]:
    """Yield each cluster that no run uses or kept, or with why that is unclear."""
    for name, folder in creator.run_directories(deadline).items():
        run = RunDirectory(folder)
        if why := why_unclear(run, name):
            if _is_still(name, run, creator, deadline):  # not deleted with its notes meanwhile
                yield name, run, why
        elif _is_garbage(run):
            yield name, run, ""


def _delete_alone(
    name: str, run: RunDirectory, creator: ClusterCreator, deadline: Deadline
) -> bool:
    """Delete the cluster, unless a run reuses it at this moment; return whether it was deleted.

    A run that wants the name may have deleted it since it was listed, and made its own.
    """
    with locked_alone(run.lock) as alone:
        if alone and _is_still(name, run, creator, deadline) and _is_swept(name, run):
            with suppress(OSError):  # of a full disk, which the deletion helps
                run.write(SweepBegun(cluster=name))  # for a run that waits for the name
            creator.delete(name, kubeconfig=run.kubeconfig, deadline=deadline)
            forget_name(run)
            return True
    return False


def _is_still(name: str, run: RunDirectory, creator: ClusterCreator, deadline: Deadline) -> bool:
    there = creator.observe(name, deadline)
    return there is not None and there.folder == run.path


def _is_swept(name: str, run: RunDirectory) -> bool:
    """Whether the notes still say, now that no other process has the lock, that it may go."""
    return not why_unknown(run, name) and run.read(ClusterKept) is None


def _is_garbage(run: RunDirectory) -> bool:
    """Whether the run is dead and its cluster was not kept on purpose."""
    return not is_locked(run.lock) and run.read(ClusterKept) is None


def tear_down(name: str, *, tools: Tools, kubeconfig: Path, deadline: Deadline) -> None:
    """Delete the cluster `name`; do nothing if there is none.

    A creation that was cut short may have asked the engine for a container that appears only
    after the deletion; so the cluster is looked for once more, for a few seconds.

    Raises:
        CommandError: It could not be deleted.
    """
    finished = size_of(kubeconfig) > 0  # the last thing it writes
    tools.provider.delete(name, kubeconfig=kubeconfig, deadline=deadline)
    late = deadline.within(0.0 if finished else _LATE)
    while not late.passed:
        late.pause(_LATE_EVERY)
        if tools.provider.exists(name, deadline):
            tools.provider.delete(name, kubeconfig=kubeconfig, deadline=deadline)

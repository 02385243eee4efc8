"""Delete the clusters of runs that were killed: ours by their mark, dead by their free lock.

A cluster is known by the run directory that is mounted in its kind nodes. Only the lock in
there says whether the run lives: a process id may be somebody else's by now, and an age says
nothing. What was kept on purpose is never touched. A step must not know another step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.coordination import RunDirectory, is_held

if TYPE_CHECKING:
    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.timeline import Deadline


def sweep(provider: Provider, deadline: Deadline) -> tuple[str, ...]:
    """Delete each cluster of ours whose run is dead, and return their names.

    Raises:
        CommandError: One could not be deleted.
    """
    deleted = []
    for name, folder in provider.run_directories(deadline).items():
        run = RunDirectory(folder)
        if is_garbage(run):
            provider.delete(name, kubeconfig=run.kubeconfig, deadline=deadline)
            deleted.append(name)
    return tuple(deleted)


def is_garbage(run: RunDirectory) -> bool:
    """Whether the run is dead and its cluster was not kept on purpose.

    A run directory that somebody removed tells neither, so its cluster is left alone.
    """
    return run.lock.exists() and not is_held(run.lock) and run.read("kept") is None

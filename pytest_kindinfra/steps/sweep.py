"""Delete the clusters of runs that were killed: ours by their mark, dead by their free lock.

A cluster is known by the run directory that is mounted in its kind nodes. Only the lock in
there says whether the run lives: a process id may be somebody else's by now, and an age says
nothing. What was kept on purpose is never touched. A step must not know another step.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_kindinfra.coordination import RunDirectory, held_alone, is_held
from pytest_kindinfra.errors import StateError

if TYPE_CHECKING:
    from pytest_kindinfra.clusters.protocol import Provider
    from pytest_kindinfra.timeline import Deadline


@dataclass(frozen=True, slots=True)
class Swept:
    """What became of leftovers.

    Attributes:
        deleted: The clusters that were deleted.
        unclear: Cluster to why nobody can tell whether it may be deleted; it is left alone.
    """

    deleted: list[str] = field(default_factory=list)
    unclear: dict[str, str] = field(default_factory=dict)


def sweep(provider: Provider, deadline: Deadline) -> Swept:
    """Delete each cluster of ours whose run is dead and did not keep it.

    Raises:
        CommandError: One could not be deleted.
    """
    swept = Swept()
    for name, folder in provider.run_directories(deadline).items():
        run = RunDirectory(folder)
        if why := why_unclear(run):
            swept.unclear[name] = why
        elif is_garbage(run) and _delete_alone(name, run, provider, deadline):
            swept.deleted.append(name)
    return swept


def left_behind(provider: Provider, deadline: Deadline) -> list[str]:
    """Return the clusters that `sweep` would delete."""
    found = {name: RunDirectory(path) for name, path in provider.run_directories(deadline).items()}
    return [name for name, run in found.items() if not why_unclear(run) and is_garbage(run)]


def _delete_alone(name: str, run: RunDirectory, provider: Provider, deadline: Deadline) -> bool:
    """Delete the cluster, unless somebody takes it over at this moment; say whether it went.

    A run that wants the name may have deleted it since it was listed, and made its own.
    """
    with held_alone(run.lock) as alone:
        there = provider.standing(name, deadline) if alone else None
        if there and there.folder == run.path and run.read("kept") is None:
            with suppress(OSError):  # of a full disk, which the deletion helps
                run.write("swept", {"cluster": name})  # for who wants the name, and finds it locked
            provider.delete(name, kubeconfig=run.kubeconfig, deadline=deadline)
            return True
    return False


def why_unclear(run: RunDirectory) -> str:
    """Return why the run directory does not tell whether its run lives; nothing if it does."""
    try:
        if not run.lock.exists():
            return f"its run directory {run.path} is gone"
        if not is_held(run.lock):
            run.read("kept")
    except PermissionError:
        return f"its run directory {run.path} is somebody else's, whose gc can tell"
    except StateError as error:
        return str(error)
    return ""


def is_garbage(run: RunDirectory) -> bool:
    """Whether the run is dead and its cluster was not kept on purpose."""
    return not is_held(run.lock) and run.read("kept") is None

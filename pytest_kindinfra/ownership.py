"""Whether anybody uses a cluster, as far as the folder that is mounted in its kind nodes tells.

The folder is a run directory, or that of a cluster which outlives runs. What it does not tell is
unclear: such a cluster is never deleted and never reused, but named with the command that deletes
it. A path alone proves nothing: an engine may show a path of its virtual machine, and containers
that share an engine may each have another folder at the same path.
"""

from __future__ import annotations

import errno
import shlex
from typing import TYPE_CHECKING

from pytest_kindinfra.coordination import is_held
from pytest_kindinfra.errors import StateError
from pytest_kindinfra.presence import is_there

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kindinfra.coordination import RunDirectory

_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM})


def why_unclear(folder: RunDirectory, cluster: str) -> str:
    """Return why nobody can tell whether the cluster is in use; empty if the folder tells it."""
    if why := why_unseen(folder):
        return why
    try:
        return "" if is_held(folder.lock) else why_unknown(folder, cluster)
    except OSError as error:
        return _not_seen(folder, error)


def why_unseen(folder: RunDirectory) -> str:
    """Return why the folder, or the lock in it, cannot be seen from here; empty if it can."""
    try:
        if not is_there(folder.path):
            return f"its run directory {folder.path} is gone, or not of this machine"
        if not is_there(folder.lock):
            return f"its run directory {folder.path} has no lock file any more"
    except OSError as error:
        return _not_seen(folder, error)
    return ""


def why_unknown(folder: RunDirectory, cluster: str) -> str:
    """Return why the folder's notes are not those of the cluster; empty if they are.

    They are written before the cluster is created, and removed once it is deleted.
    """
    try:
        noted = folder.read("cluster-name")
        folder.read("kept")
    except StateError as error:
        return str(error)
    if not isinstance(noted, dict) or noted.get("name") != cluster:
        return f"its run directory {folder.path} has no note of it"
    return ""


def refusal(cluster: str, why: str, delete: Sequence[str]) -> str:
    """Return the message for who wants the name of a cluster that is unclear.

    Args:
        cluster: kind's name for it.
        why: What `why_unclear` said.
        delete: The command that deletes it.
    """
    return (
        f'there is already a cluster "{cluster}", and whether anybody uses it is unclear: {why}\n'
        f"To fix: if nobody uses it: {shlex.join(delete)}; "
        "else choose another --kindinfra-cluster-name"
    )


def _not_seen(folder: RunDirectory, error: OSError) -> str:
    whose = " (another user's, whose kindinfra gc can tell)" * (error.errno in _NO_PERMISSION)
    return f"its run directory {folder.path} cannot be seen: {error.strerror}{whose}"

"""Where a cluster that outlives runs keeps what later runs must know, and what it is called.

Its home is a folder like a run directory, `ARTIFACTS/reused/NAME`, and mounted in the kind nodes
in the place of one: so from the containers alone there is a way to its credentials, to what it
was made with, and to the lock that whoever uses it holds. It must not know what a run does.
"""

from __future__ import annotations

import re
from hashlib import sha256
from os import fsencode
from typing import TYPE_CHECKING

from pytest_kindinfra.coordination import RunDirectory, hold_within
from pytest_kindinfra.errors import ClusterError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.coordination import Lock
    from pytest_kindinfra.timeline import Deadline

FOLDER = "reused"
APPLIED = "applied-"
"""Names of what is known of services begin so."""

_LONGEST_WORD = 24
"""Of a container's name, which is a host name too, 63 letters; kind adds `-control-plane2`."""
_DIGITS = 6
_PRIVATE = 0o700


def name_after(folder: Path) -> str:
    """Return the name of the cluster that runs in `folder` share: `kindinfra-shop-3f2a91`."""
    whole = folder.resolve()
    word = re.sub(r"[^a-z0-9]+", "-", whole.name.lower())[:_LONGEST_WORD].strip("-")
    digits = sha256(fsencode(whole)).hexdigest()[:_DIGITS]
    return "-".join(part for part in ("kindinfra", word, digits) if part)


def home_of(artifacts: Path, name: str) -> RunDirectory:
    """Return the home of a cluster that is to be made; nothing is made on disk."""
    return RunDirectory(artifacts / FOLDER / name)


def is_kept(home: RunDirectory) -> bool:
    """Whether its cluster was made to the end, and is there for the next run."""
    try:
        return home.read("kept") is not None
    except StateError:
        return False


def forget(home: RunDirectory) -> None:
    """Remove what is known of a cluster that is gone; the lock stays, since others may wait."""
    for name in ("kept", "made", "swept", "cluster-name", *home.names(APPLIED)):
        home.file(name).unlink(missing_ok=True)
    home.kubeconfig.unlink(missing_ok=True)


def lock_home(
    home: RunDirectory, *, user: str, waiting: Callable[[str], object], deadline: Deadline
) -> Lock:
    """Wait until nobody else uses the cluster, and keep it for this process.

    Args:
        home: The cluster's.
        user: Who wants it, for those that wait for us.
        waiting: Called once with who has it, if somebody has.
        deadline: When to give up.

    Raises:
        ClusterError: Somebody used it until the deadline, or its folder cannot be used.
        CancelledError: The run is ending.
    """
    try:
        home.path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        home.hide()
        lock = hold_within(home.lock, deadline, waiting=lambda: waiting(user_of(home)))
    except OSError as error:
        msg = (
            f'the folder {home.path} of cluster "{home.path.name}" cannot be used: '
            f"{error.strerror}\nTo fix: make it writable, or take another "
            "--kindinfra-cluster-name or --kindinfra-artifacts"
        )
        raise ClusterError(msg) from error
    if lock is None:
        msg = (
            f'cluster "{home.path.name}" was in use by {user_of(home)} all the time\n'
            "To fix: wait for its end, or take another --kindinfra-cluster-name"
        )
        raise ClusterError(msg)
    home.write("user", {"user": user})
    return lock


def user_of(home: RunDirectory) -> str:
    """Return who used the cluster last, for messages."""
    try:
        return str((home.read("user") or {}).get("user") or "another run")
    except StateError:
        return "another run"

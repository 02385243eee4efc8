"""What is kept of a reused cluster: its reused directory, its deployed state, and who uses it.

A cluster whose directory cannot be read is never deleted and never reused (docs/decisions/0032).
"""

from __future__ import annotations

import errno
import json
import secrets
import shlex
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError, StateError
from pytest_kindinfra.state.clusterrecords import (
    ClusterKept,
    ClusterNamed,
    Deployed,
    DeployedTo,
    Fingerprint,
    ObjectsApplied,
    ReusedBy,
    SweepBegun,
)
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold_within, is_locked
from pytest_kindinfra.state.records import DeployedService
from pytest_kindinfra.system.files import is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import Declaration, KubeObject
    from pytest_kindinfra.state.locks import Lock
    from pytest_kindinfra.system.timeline import Deadline


_FOLDER = "reused"


_PRIVATE = 0o700


def reused_directory(artifacts: Path, name: str) -> RunDirectory:
    """Return the reused directory of a cluster that is to be made; nothing is made on disk."""
    return RunDirectory(artifacts / _FOLDER / name)


def is_kept(directory: RunDirectory) -> bool:
    """Whether its cluster was made to the end, and is there for the next run."""
    try:
        return directory.read(ClusterKept) is not None
    except StateError:
        return False


def forget(directory: RunDirectory) -> None:
    """Remove what is known of a cluster that is gone; the lock stays, since others may wait."""
    for kind in (ClusterKept, Fingerprint, SweepBegun, ClusterNamed, DeployedTo, ObjectsApplied):
        directory.remove(kind)
    for service in services_in(directory):
        drop_deployed(directory, service)
    directory.kubeconfig.unlink(missing_ok=True)


def forget_name(directory: RunDirectory) -> None:
    """Note that the cluster of a killed run is deleted: its run directory may be removed.

    `SweepBegun` stays, since a run that waits for the lock looks for it. A full disk is no error.
    """
    with suppress(OSError):
        directory.remove(ClusterNamed)


def acquire(
    directory: RunDirectory,
    *,
    user: str,
    waiting: Callable[[str], object],
    deadline: Deadline,
    way_out: str = ", or use another --kindinfra-cluster-name",
) -> Lock:
    """Wait until no other process uses a reused cluster, and keep it for this process.

    Args:
        directory: The cluster's reused directory.
        user: The name of this process's work, for the message to those that wait for it.
        waiting: Called once with the user that has it, if there is one.
        deadline: When to give up.
        way_out: What can be done instead of waiting.

    Raises:
        ClusterError: It was in use until the deadline, or its folder cannot be used.
        CancelledError: The run is ending.
    """
    try:
        directory.path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        directory.hide()
        lock = hold_within(directory.lock, deadline, waiting=lambda: waiting(user_of(directory)))
    except OSError as error:
        msg = (
            f'the folder {directory.path} of cluster "{directory.path.name}" cannot be used: '
            f"{error.strerror}\nTo fix: make it writable, or use another "
            "--kindinfra-cluster-name or --kindinfra-artifacts"
        )
        raise ClusterError(msg) from error
    if lock is None:
        msg = (
            f'cluster "{directory.path.name}" did not become free{deadline.exceeded()}: it is in '
            f"use by {user_of(directory)}\n"
            f"To fix: wait until it ends{way_out}"
        )
        raise ClusterError(msg)
    directory.write(ReusedBy(user=user))
    return lock


def user_of(directory: RunDirectory) -> str:
    """Return who used the cluster last, for messages."""
    try:
        noted = directory.read(ReusedBy)
    except StateError:
        noted = None
    return noted.user if noted else "another run"


_HASH_DIGITS = 16


_HOOK = "hook"


def read_deployed(directory: RunDirectory, service: str) -> Deployed | None:
    """Return the deployed state of a service; None if there is none, or if it cannot be read."""
    try:
        return directory.read(Deployed, service)
    except StateError:
        return None


def write_deployed(directory: RunDirectory, service: str, deployed: Deployed) -> None:
    """Keep the deployed state of a service."""
    directory.write(deployed, service)


def drop_deployed(directory: RunDirectory, service: str) -> None:
    """Forget a service of which nothing is there any more."""
    directory.remove(Deployed, service)
    directory.remove(DeployedService, service)


def source_of(service: str, declaration: Declaration) -> str:
    """Return who declares a service, for its deployed state."""
    return _HOOK if service in declaration.from_hooks else str(declaration.folder)


def services_in(directory: RunDirectory) -> list[str]:
    """Return the services that have a deployed state."""
    return directory.names(Deployed)


def deployed_services(directory: RunDirectory) -> Iterator[tuple[str, Deployed]]:
    """Yield each service that has a deployed state, with that state."""
    for name in services_in(directory):
        if deployed := read_deployed(directory, name):
            yield name, deployed


def new_generation() -> str:
    """Return a generation that no service had before."""
    return secrets.token_hex(_HASH_DIGITS // 2)


def identity(obj: KubeObject, *, namespace: str) -> KubeObject:
    """Return the part of an object that leads to it."""
    meta = obj["metadata"]
    where = str(meta.get("namespace") or namespace)
    metadata = {"name": meta["name"], "namespace": where}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}


def key(obj: KubeObject) -> str:
    """Return an identity as one word; the version of its API is no part of it."""
    group = obj["apiVersion"].rpartition("/")[0]
    meta = obj["metadata"]
    return f"{group}/{obj['kind']}/{meta['namespace']}/{meta['name']}"


def hashed(*parts: Any) -> str:
    """Return a hash of parts that JSON can tell."""
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[
        :_HASH_DIGITS
    ]


def merged(*lists: Iterable[KubeObject]) -> list[KubeObject]:
    """Return identities, each once."""
    return list({key(obj): obj for objects in lists for obj in objects}.values())


def same_needs(deployed: Deployed, generations: Mapping[str, str]) -> bool:
    """Whether what a service needs is what it was when the service was brought up."""
    return deployed.needs == dict(generations)


_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM})


def why_unclear(folder: RunDirectory, cluster: str) -> str:
    """Return why it is unknown whether the cluster is in use; empty if the folder says it."""
    if why := why_unseen(folder):
        return why
    try:
        return "" if is_locked(folder.lock) else why_unknown(folder, cluster)
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
        noted = folder.read(ClusterNamed)
        folder.read(ClusterKept)
    except StateError as error:
        return str(error)
    if noted is None or noted.name != cluster:
        return f"its run directory {folder.path} has no note of it"
    return ""


def refusal(cluster: str, why: str, delete: Sequence[str]) -> str:
    """Return the message for a run that wants the name of an unclear cluster.

    Args:
        cluster: kind's name for it.
        why: What `why_unclear` said.
        delete: The command that deletes it.
    """
    return (
        f'there is already a cluster "{cluster}", and it is unknown whether it is in use: {why}\n'
        f"To fix: if it is not in use: {shlex.join(delete)}; "
        "else choose another --kindinfra-cluster-name"
    )


def _not_seen(folder: RunDirectory, error: OSError) -> str:
    whose = " (another user's, whose kindinfra gc can tell)" * (error.errno in _NO_PERMISSION)
    return f"its run directory {folder.path} cannot be seen: {error.strerror}{whose}"

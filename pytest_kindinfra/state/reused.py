"""What is kept of a reused cluster: its folder, its services' state, and who uses it.

A cluster whose folder cannot be read is never deleted and never reused (docs/decisions/0032).
"""

from __future__ import annotations

import errno
import json
import re
import secrets
import shlex
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from os import fsencode
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import ClusterError, StateError
from pytest_kindinfra.state.directory import RunDirectory
from pytest_kindinfra.state.locks import hold_within, is_held
from pytest_kindinfra.system.files import is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_kindinfra.model import Declaration, Endpoint, KubeObject
    from pytest_kindinfra.state.locks import Lock
    from pytest_kindinfra.system.timeline import Deadline


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


_HASH_DIGITS = 16


_HOOK = "hook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What there is of one service.

    Attributes:
        ready: It was ready when it was last brought up.
        content: A hash of its objects as written, and of what its images were.
        step: A hash of what its Python step reads; empty if it must run each time.
        token: Another one each time when something of the service, or of what it needs, changed.
        needs: The services that it needs, to their tokens at that time.
        objects: Its objects by `identity`, without those of a chart.
        charted: Those of a chart.
        release: The chart's release: `name` and `namespace`; empty without one.
        uids: `key` of an object to the uid that it had.
        returned: The objects that its Python step returned.
        endpoints: As in a service's result.
        source: The folder of the declaration that has it; `hook` if a hook added it, empty if an
            older version did not note it.
    """

    ready: bool = False
    content: str = ""
    step: str = ""
    token: str = ""
    needs: dict[str, str] = field(default_factory=dict)
    objects: list[KubeObject] = field(default_factory=list)
    charted: list[KubeObject] = field(default_factory=list)
    release: dict[str, str] = field(default_factory=dict)
    uids: dict[str, str] = field(default_factory=dict)
    returned: list[KubeObject] = field(default_factory=list)
    endpoints: list[dict[str, Any]] = field(default_factory=list)
    source: str = ""


def read_entry(home: RunDirectory, service: str) -> Entry | None:
    """Return what there is of a service; None for nothing, or if nobody can tell."""
    try:
        record = home.read(f"{APPLIED}{service}")
        return Entry(**record) if record else None
    except (StateError, TypeError):
        return None


def write_entry(home: RunDirectory, service: str, entry: Entry) -> None:
    """Keep what there is of a service."""
    home.write(f"{APPLIED}{service}", json.loads(json.dumps(asdict(entry), default=str)))


def drop_entry(home: RunDirectory, service: str) -> None:
    """Forget a service of which nothing is there any more."""
    home.file(f"{APPLIED}{service}").unlink(missing_ok=True)


def source_of(service: str, declaration: Declaration) -> str:
    """Return who declares a service, for its entry."""
    return _HOOK if service in declaration.from_hooks else str(declaration.folder)


def services_in(home: RunDirectory) -> list[str]:
    """Return the services of which there is something."""
    return [name.removeprefix(APPLIED) for name in home.names(APPLIED)]


def new_token() -> str:
    """Return a token that no service had before."""
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


def by_service(home: RunDirectory) -> Iterator[tuple[str, Entry]]:
    """Yield all services of which there is something, with what there is."""
    for name in services_in(home):
        if entry := read_entry(home, name):
            yield name, entry


def endpoint_records(endpoints: Iterable[Endpoint]) -> list[dict[str, Any]]:
    """Return endpoints as they are kept."""
    return [asdict(endpoint) for endpoint in endpoints]


Tokens = dict[str, str]


def same_needs(entry: Entry, tokens: Mapping[str, str]) -> bool:
    """Whether what a service needs is what it was when the service was brought up."""
    return entry.needs == dict(tokens)


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

"""What a cluster that outlives runs has of each service, for the runs that come later.

One file for each service in the cluster's home. It is written before anything of the service is
changed and again when it is ready, so that whatever ends a run, the next one knows what there may
be. It must not know the cluster's API.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import StateError
from pytest_kindinfra.homes import APPLIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_kindinfra.coordination import RunDirectory
    from pytest_kindinfra.model import Declaration, Endpoint, KubeObject

_DIGITS = 16
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
    return secrets.token_hex(_DIGITS // 2)


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
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]


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

"""A run's place in its group: the objects in the group's namespace, and how a run leaves.

`kube/election.py` and `kube/group.py` have the rules; this has the names and the seconds.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.cleanup import Scope, marked_namespaces, remove_all
from pytest_kindinfra.kube.client import ApiError
from pytest_kindinfra.kube.cluster import run_of
from pytest_kindinfra.kube.election import Election, Observed
from pytest_kindinfra.kube.group import Members, Results, Retries
from pytest_kindinfra.kube.leases import ConfigMaps, Leases
from pytest_kindinfra.kube.reader import Reader
from pytest_kindinfra.model import RUN_LABEL
from pytest_kindinfra.system.timeline import monotonic, sleep, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kindinfra.system.timeline import Deadline


TERM = 15.0
"""Seconds without a renewal after which a run is dead; as in client-go."""

TEARDOWN_SECONDS = 180.0
"""A run that has closed the results and is not done by then is dead: its own limit is shorter."""

_LOOK_EVERY = 0.5

_AT_ONCE = 8

_HOLDER, _RESULTS, _MEMBER = "kindinfra-holder", "kindinfra-results", "kindinfra-member-"


@dataclass(frozen=True, slots=True)
class Membership:
    """What a run of a group reads and writes in the group's namespace.

    Attributes:
        results: What the holder has published.
        election: Who is the holder.
        members: Which runs are alive.
    """

    results: Results
    election: Election
    members: Members

    def resign(self) -> None:
        """Let another run provision at once; if the cluster does not answer, after a term."""
        with suppress(KindInfraError):
            self.election.resign()

    def leave(self) -> bool:
        """Stop being a member, and return whether this was the last one: it tears down.

        It blocks for up to a term. False if the namespace is missing or is being deleted.
        """
        self.resign()
        try:
            return self.members.leave(self.results)
        except ApiError as error:
            if not is_ending(error):
                raise
            return False


def open_membership(
    reader: Reader,
    group: str,
    who: str,
    *,
    clock: Callable[[], float] = monotonic,
    pause: Callable[[float], object] = sleep,
) -> Membership:
    """Return the membership of a run, which has not joined yet.

    Args:
        reader: The cluster.
        group: The group's id, which is the name of its namespace.
        who: The run's id.
        clock: Seconds, on a clock that never goes back.
        pause: Waits for so many seconds.
    """
    retries, labels = Retries(clock, partial(pause, _LOOK_EVERY)), {RUN_LABEL: group}
    leases, maps = Leases(reader, group, labels), ConfigMaps(reader, group, labels)
    return Membership(
        results=Results(maps, _RESULTS, who, retries),
        election=Election(leases, _HOLDER, who, term=TERM, clock=clock),
        members=Members(leases, _MEMBER, who, term=TERM, retries=retries),
    )


def is_ending(error: ApiError) -> bool:
    """Whether a request was refused since its namespace is missing or is being deleted."""
    causes = error.details.get("causes") or ()
    terminating = any(one.get("reason") == "NamespaceTerminating" for one in causes)
    return error.status == HTTPStatus.NOT_FOUND or terminating


def leave_group(kubeconfig: Path, group: str, who: str) -> bool:
    """Leave a group for a run whose provisioner has ended; see `Membership.leave`."""
    with closing(Reader(kubeconfig)) as reader:
        return open_membership(reader, group, who).leave()


def remove_abandoned(
    reader: Reader,
    deadline: Deadline,
    *,
    clock: Callable[[], float] = monotonic,
    pause: Callable[[float], object] = sleep,
) -> list[str]:
    """Delete the stacks of groups whose runs are all dead, and return their namespaces.

    Each group is left as its last run leaves it. So it takes up to a term, and up to
    `TEARDOWN_SECONDS` if a run died while it tore the stack down; a run that joins keeps it.

    Args:
        reader: The cluster.
        deadline: When to give up.
        clock: Seconds, on a clock that never goes back.
        pause: Waits for so many seconds.

    Raises:
        KindInfraError: Something could not be deleted, or the cluster does not answer.
    """
    groups = [
        one["metadata"]["name"]
        for one in marked_namespaces(reader)
        if run_of(one) == one["metadata"]["name"] and "deletionTimestamp" not in one["metadata"]
    ]
    remove = partial(_remove, reader, deadline=deadline, clock=clock, pause=pause)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        removed = list(pool.map(remove, groups))
    return [group for group, gone in zip(groups, removed, strict=True) if gone]


def _remove(
    reader: Reader,
    group: str,
    *,
    deadline: Deadline,
    clock: Callable[[], float],
    pause: Callable[[float], object],
) -> bool:
    """Delete the stack of a group unless a run of it is alive, and return whether it was."""
    who = f"gc-{os.urandom(4).hex()}"
    membership, observed = (
        open_membership(reader, group, who, clock=clock, pause=pause),
        Observed(clock),
    )

    def is_open() -> bool:
        membership.results.begin_anew(observed, after=TEARDOWN_SECONDS)
        return not membership.results.is_closed

    if not wait_until(is_open, deadline, every=_LOOK_EVERY) or not membership.leave():
        return False
    remove_all(reader, group, deadline, Scope(frozenset({group})))
    return True

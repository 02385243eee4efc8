"""The results of runs that share a stack, and which of these runs are still there.

A holder claims the results before it publishes any, which gives them another version. So one that
was paused past its term fails at its next write, whatever it believes: it writes with the version
of its own claim. Pure: the stores and the clock come from outside.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.kube.election import HOLDER, RENEWAL, ConflictError, Entry, Observed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kindinfra.kube.election import Store

T = TypeVar("T")

_CLAIM = ".holder"
_CLOSED = ".closed"


@dataclass(frozen=True, slots=True)
class Retries:
    """Repeats a write that other runs get ahead of, but not without end.

    Attributes:
        clock: Seconds, on a clock that never goes back.
        pause: Called between two tries.
        seconds: How long it is repeated; less than a term, in which a Lease must be renewed.
    """

    clock: Callable[[], float]
    pause: Callable[[], object]
    seconds: float = 10.0

    def until_written(self, what: str, write: Callable[[], T]) -> T:
        """Return what `write` returns as soon as it raises no `ConflictError`.

        Args:
            what: What is written, for the message.
            write: Reads the newest entry and writes it.

        Raises:
            KindInfraError: Others were quicker each time, for so many seconds.
        """
        began = self.clock()
        while True:
            try:
                return write()
            except ConflictError as error:
                if self.clock() - began >= self.seconds:
                    msg = (
                        f"{what} could not be written within {self.seconds:g} s, since other runs "
                        f"of the group changed it each time: {error}\n"
                        "To fix: run again, or use another --kindinfra-group"
                    )
                    raise KindInfraError(msg) from error
            self.pause()


class ReplacedError(KindInfraError):
    """Another run provisions by now; this one must write no more."""


class Results:
    """What a group's holder has published: a text for each record, which then stays.

    Args:
        store: Where the results are.
        name: The entry that has all of them.
        identity: Who this is; no other has the same.
        retries: Repeats what other runs get ahead of.
    """

    def __init__(self, store: Store, name: str, identity: str, retries: Retries) -> None:
        self._store = store
        self._name = name
        self._identity = identity
        self._retries = retries
        self._mine: Entry | None = None
        self._read = ""

    def claim(self) -> Mapping[str, str]:
        """Become the only one who can publish, and return what earlier holders published.

        Only the elected run calls this. Of two that believe they are, the later one stays.

        Raises:
            KindInfraError: Other runs were quicker each time.
        """
        mine = self._mark(lambda data: {**data, _CLAIM: self._identity})
        self._mine = mine
        return _records(mine)

    def publish(self, key: str, text: str) -> str:
        """Publish a record, and return what stands: an earlier holder's if there was one.

        Raises:
            ReplacedError: Another run has claimed the results, or they are gone.
            KindInfraError: Other runs were quicker each time.
        """

        def write() -> str:
            entry = self._claimed()
            if key in entry.data:
                return entry.data[key]
            try:
                self._mine = self._put(entry, {**entry.data, key: text})
            except ConflictError:  # a request that was sent twice, or a leaving run's mark
                self._mine = self._store.read(self._name)
                raise
            return text

        return self._retries.until_written(f"the result {key}", write)

    def published(self) -> Mapping[str, str]:
        """Return the records that there are, by their keys."""
        entry = self._store.read(self._name)
        self._read = entry.version if entry else ""
        return _records(entry)

    def await_news(self, seconds: int) -> None:
        """Return when something has changed since `published`, or after so many seconds."""
        self._store.await_change(self._name, version=self._read, seconds=seconds)

    @property
    def is_closed(self) -> bool:
        """Whether a run that was the last one is about to tear down what the results describe."""
        entry = self._store.read(self._name)
        return entry is not None and _CLOSED in entry.data

    def close(self) -> bool:
        """Mark the results as those of a stack that this run tears down; False if another does."""
        closed = self._mark(lambda data: {_CLOSED: self._identity, **data})
        return closed.data[_CLOSED] == self._identity

    def reopen(self) -> None:
        """Take the mark of `close` back."""
        self._mark(lambda data: {key: text for key, text in data.items() if key != _CLOSED})

    def begin_anew(self, observed: Observed, *, after: float) -> None:
        """Forget the results if they have been closed for too long: who closed them is dead.

        Args:
            observed: For how long this run has seen them closed.
            after: Seconds that a teardown can take.
        """
        entry = self._store.read(self._name)
        if entry and _CLOSED in entry.data and observed.age(entry) >= after:
            with suppress(ConflictError):
                self._put(entry, {})

    def _mark(self, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Entry:
        """Write what `change` makes of the newest data, unless it leaves them as they are."""

        def write() -> Entry:
            entry = self._store.read(self._name)
            data = entry.data if entry else {}
            if (changed := change(data)) == data:
                return entry or Entry(name=self._name, version="")
            return self._put(entry, changed)

        return self._retries.until_written("the results", write)

    def _claimed(self) -> Entry:
        if self._mine is None or self._mine.data.get(_CLAIM) != self._identity:
            self._mine = None
            msg = "another run of the group provisions by now"
            raise ReplacedError(msg)
        return self._mine

    def _put(self, entry: Entry | None, data: Mapping[str, str]) -> Entry:
        return self._store.write(self._name, data, version=entry.version if entry else None)


def _records(entry: Entry | None) -> Mapping[str, str]:
    data = entry.data if entry else {}
    return {key: text for key, text in data.items() if not key.startswith(".")}


class Members:
    """The runs of a group that are alive, by a Lease of each.

    Args:
        store: Where the Leases are.
        prefix: How the names of the group's Leases begin.
        identity: Who this is; no other has the same.
        term: Seconds without a renewal after which a member is dead.
        retries: Repeats what other runs get ahead of, and has the clock by which members are dead.
    """

    def __init__(
        self,
        store: Store,
        prefix: str,
        identity: str,
        *,
        term: float,
        retries: Retries,
    ) -> None:
        self._store = store
        self._prefix = prefix
        self._identity = identity
        self._term = term
        self._observed = Observed(retries.clock)
        self._retries = retries

    def join(self, results: Results) -> bool:
        """Become a member; False if the stack is being torn down: join again a little later.

        The Lease comes first. So a run that leaves either sees it after its `close`, or has closed
        before the Lease was written, and then this sees the mark.
        """
        self.renew()
        if not results.is_closed:
            return True
        self._remove_own()
        return False

    def renew(self) -> None:
        """Show that this run is alive; called several times in a term.

        Raises:
            KindInfraError: Other runs were quicker each time.
        """

        def write() -> None:
            entry = self._store.read(self._name)
            count = int(entry.data.get(RENEWAL, "0")) + 1 if entry else 1
            data = {HOLDER: self._identity, RENEWAL: str(count)}
            self._store.write(self._name, data, version=entry.version if entry else None)

        self._retries.until_written(f"Lease {self._name}", write)

    def leave(self, results: Results) -> bool:
        """Stop being a member, and return whether this was the last one: it tears down.

        It blocks for up to a term while it finds out whether the others are alive. Of several that
        leave at the same time, exactly one is the last.
        """
        self._remove_own()
        if self._any_alive() or not results.close():
            return False
        if not self._others():
            return True
        results.reopen()  # a run has joined since
        return False

    @property
    def _name(self) -> str:
        return f"{self._prefix}{self._identity}"

    def _any_alive(self) -> bool:
        """Whether another member is alive; those that are not are removed."""
        first = {entry.name: entry.version for entry in self._others()}
        while there := self._others():
            if any(first.get(entry.name) != entry.version for entry in there):
                return True
            for entry in there:
                if self._observed.age(entry) >= self._term:
                    with suppress(ConflictError):  # it was renewed meanwhile
                        self._store.remove(entry)
            self._retries.pause()
        return False

    def _others(self) -> list[Entry]:
        return [one for one in self._store.read_all(self._prefix) if one.name != self._name]

    def _remove_own(self) -> None:
        def remove() -> None:
            if entry := self._store.read(self._name):
                self._store.remove(entry)

        self._retries.until_written(f"Lease {self._name}", remove)

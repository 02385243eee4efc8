"""Which of several runs provisions a stack that they share.

As in client-go's leader election, no clock of another machine counts: a holder is dead if an
observer has seen its Lease unchanged for a term by the observer's own clock. Pure: the store and
the clock come from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_kindinfra.errors import KindInfraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


HOLDER = "holder"
RENEWAL = "renewal"
"""A count: a Lease that is written without a change keeps its version, and would look dead."""


class ConflictError(KindInfraError):
    """Another run has written, created or deleted the entry since it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is stored under a name.

    Attributes:
        name: The name.
        version: Another one after each change.
        data: Keys and texts.
    """

    name: str
    version: str
    data: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Entries that several runs write, with optimistic locking."""

    def read(self, name: str) -> Entry | None:
        """Return the newest entry of a name, None if there is none."""
        ...

    def read_all(self, prefix: str) -> list[Entry]:
        """Return the newest entries whose names begin with `prefix`."""
        ...

    def write(self, name: str, data: Mapping[str, str], *, version: str | None) -> Entry:
        """Write an entry if it has that version still; None creates it.

        Raises:
            ConflictError: It has another version, or is there, or is not.
        """
        ...

    def remove(self, entry: Entry) -> None:
        """Delete an entry if it has that version still; do nothing if it is missing.

        Raises:
            ConflictError: It has another version.
        """
        ...

    def await_change(self, name: str, *, version: str, seconds: int) -> None:
        """Return when an entry has another version than that, or after so many seconds.

        Args:
            name: The entry's; it need not exist.
            version: Empty if it did not exist.
            seconds: The longest wait.
        """
        ...


class Observed:
    """For how long an observer has seen each entry unchanged.

    Args:
        clock: Seconds, on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[str, float]] = {}

    def age(self, entry: Entry) -> float:
        """Return for how many seconds this version is known, 0 for one that is new here."""
        version, since = self._seen.get(entry.name, ("", 0.0))
        at = self._clock()  # after the answer came: an observer rather waits too long
        if version != entry.version:
            self._seen[entry.name] = (entry.version, at)
            return 0.0
        return at - since


class Election:
    """One run's part in the election of a holder; `step` is called several times in a term.

    Args:
        store: Where the Leases are.
        name: The Lease of the election.
        identity: Who this is; no other has the same.
        term: Seconds without a renewal after which a holder is dead.
        clock: Seconds, on a clock that never goes back.
    """

    def __init__(
        self, store: Store, name: str, identity: str, *, term: float, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._name = name
        self._identity = identity
        self._term = term
        self._clock = clock
        self._observed = Observed(clock)
        self._renewed: float | None = None

    @property
    def holds(self) -> bool:
        """Whether this run was elected and its term is not over, by its own clock."""
        return self._renewed is not None and self._clock() - self._renewed < self._term

    def step(self) -> bool:
        """Renew the Lease, acquire it if no live run holds it, and return whether this run does.

        Raises:
            KindInfraError: The store does not answer; the term goes on meanwhile.
        """
        entry = self._store.read(self._name)
        if entry is None or self._may_write(entry):
            self._write(entry)
        else:
            self._renewed = None
        return self.holds

    def resign(self) -> None:
        """Let another run be elected at once; do nothing if this one does not hold the Lease."""
        self._renewed = None
        entry = self._store.read(self._name)
        if entry and entry.data.get(HOLDER) == self._identity:
            self._put(entry, holder="")

    def _may_write(self, entry: Entry) -> bool:
        holder, age = entry.data.get(HOLDER, ""), self._observed.age(entry)
        return holder in {"", self._identity} or age >= self._term

    def _write(self, entry: Entry | None) -> None:
        at = self._clock()  # before it is sent: a holder rather gives up too early
        self._renewed = at if self._put(entry, holder=self._identity) else None

    def _put(self, entry: Entry | None, *, holder: str) -> bool:
        count = int(entry.data.get(RENEWAL, "0")) + 1 if entry else 1
        data = {HOLDER: holder, RENEWAL: str(count)}
        version = entry.version if entry else None
        try:
            self._store.write(self._name, data, version=version)
        except ConflictError:  # another was quicker; or this very request was sent twice
            found = self._store.read(self._name)
            return found is not None and found.data == data
        return True

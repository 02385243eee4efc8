"""`kindinfra snapshot`: the snapshots that clusters boot from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.clusters.snapshot import is_useless
from pytest_kindinfra.errors import EngineError
from pytest_kindinfra.plan.options import find_option
from pytest_kindinfra.state.locks import locked_alone
from pytest_kindinfra.state.memory import cache_folder
from pytest_kindinfra.system.timeline import Deadline, now
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kindinfra.context import Tools
    from pytest_kindinfra.protocols.snapshots import Snapshots, StoredSnapshot


_SECONDS = 60.0


_DAY = 86400.0


_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One snapshot, as it is listed."""

    reference: str
    size: int
    age_days: float | None
    node_image: str | None

    @property
    def line(self) -> str:
        """What is shown of it."""
        age = "of unknown age" if self.age_days is None else f"{self.age_days:.0f} days old"
        name, of = self.reference or "(replaced)", self.node_image or "an unknown node image"
        return f"{name}  {self.size / _MB:.0f} MB  {age}  of {of}"

    @property
    def record(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "reference": self.reference,
            "bytes": self.size,
            "age_days": self.age_days,
            "node_image": self.node_image,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What became of snapshots: those removed, and those left with why."""

    removed: list[str]
    left: dict[str, str]

    @property
    def lines(self) -> list[str]:
        """What is shown of it."""
        gone = [f"removed snapshot {name}" for name in self.removed]
        return gone + [f"left alone: snapshot {name}: {why}" for name, why in self.left.items()]


def list_snapshots(snapshots: Snapshots | None = None) -> list[Listed]:
    """Return the snapshots of the engine, the newest first.

    Args:
        snapshots: Who keeps them; None means those of this machine's engine.

    Raises:
        EngineError: The engine does not answer.
    """
    keeper = snapshots or kept_here()
    return [_listed(one) for one in keeper.all(Deadline.after(_SECONDS))] if keeper else []


def remove_snapshots(snapshots: Snapshots | None = None, *, useless_only: bool = False) -> Removed:
    """Remove snapshots, and what was left by runs that were killed while they made one.

    Args:
        snapshots: Who keeps them; None means those of this machine's engine.
        useless_only: Only those that no run can use any more.

    Raises:
        EngineError: The engine does not answer.
    """
    removed, left = [], {}
    if keeper := snapshots or kept_here():
        deadline = Deadline.after(_SECONDS)
        _remove_unfinished(keeper, deadline)
        wanted: Callable[[StoredSnapshot], bool] = _is_useless if useless_only else bool
        for one in filter(wanted, keeper.all(deadline)):
            try:
                keeper.remove(one, deadline)
                removed.append(one.reference or one.id)
            except EngineError as error:
                left[one.reference or one.id] = str(error)
    return Removed(removed=removed, left=left)


def kept_here(tools: Tools | None = None) -> Snapshots | None:
    """Return who keeps the snapshots of an engine; None if they are off, or the engine cannot.

    `KINDINFRA_SNAPSHOT=off` keeps commands from asking for them too.
    """
    if os.environ.get(find_option("snapshot").variable) == "off":
        return None
    return (tools or make_tools()).snapshots


def _remove_unfinished(keeper: Snapshots, deadline: Deadline) -> None:
    cache = cache_folder()
    if not cache.is_dir():
        return
    lock = cache / "snapshots.lock"
    with locked_alone(lock) as alone:
        if alone:
            keeper.remove_unfinished(lock, deadline)


def _is_useless(one: StoredSnapshot) -> bool:
    return one.notes is None or not one.reference or is_useless(one.notes, now())


def _listed(one: StoredSnapshot) -> Listed:
    notes = one.notes
    return Listed(
        reference=one.reference,
        size=one.size,
        age_days=(now() - notes.made) / _DAY if notes else None,
        node_image=notes.node_image if notes else None,
    )

"""What the keyword arguments of `@pytest.mark.kindinfra` ask for: turns, and fresh services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_kindinfra.errors import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import pytest

    from pytest_kindinfra.state.turns import Turn


MARK = "kindinfra"


KEYWORDS = ("exclusive", "fresh", "lock", "weight")


Fresh = Literal["", "always", "on-rerun"]


_ON_RERUN: Fresh = "on-rerun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heavy:
    """What a test asks for besides services.

    Attributes:
        locks: Names of locks that it holds while it runs, sorted.
        exclusive: No other marked test runs meanwhile.
        weight: How much of the capacity it takes.
        fresh: When its services are restarted before it.
        services: The services that its marks with `fresh` name.
    """

    locks: tuple[str, ...] = ()
    exclusive: bool = False
    weight: int = 1
    fresh: Fresh = ""
    services: tuple[str, ...] = ()

    @property
    def turn(self) -> Turn:
        """What it needs to have for itself while it runs."""
        from pytest_kindinfra.state.turns import Turn

        exclusive = self.exclusive or self.fresh == "always"
        return Turn(locks=self.locks, exclusive=exclusive, weight=self.weight)


_PLAIN = Heavy()


def heavy_of(item: pytest.Item) -> Heavy:
    """Return what the marks of a test, its class and its module ask for together.

    Locks are added up, the greatest weight counts, and of `fresh` the mark that is nearest.
    """
    marks = [mark for mark in item.iter_markers(MARK) if mark.kwargs]
    if not marks:
        return _PLAIN
    fresh = [mark for mark in marks if mark.kwargs.get("fresh") is not None][:1]
    when = fresh[0].kwargs["fresh"] if fresh else False
    return Heavy(
        locks=tuple(sorted({name for mark in marks for name in _names(mark.kwargs.get("lock"))})),
        exclusive=any(mark.kwargs.get("exclusive") is True for mark in marks),
        weight=max(mark.kwargs.get("weight", 1) for mark in marks),
        fresh="always" if when is True else _ON_RERUN if when == _ON_RERUN else "",
        services=tuple(name for mark in fresh for name in mark.args),
    )


def takes_turns(items: Iterable[pytest.Item]) -> bool:
    """Whether a mark of some test asks for something that other tests must wait for."""
    return any(_is_heavy(heavy) for heavy in map(heavy_of, items))


def _is_heavy(heavy: Heavy) -> bool:
    return bool(heavy.fresh) or heavy.turn != _PLAIN.turn


def problems_of(mark: pytest.Mark) -> Iterator[str]:
    """Yield what is wrong with the keyword arguments of a mark."""
    given: Mapping[str, Any] = mark.kwargs
    for key in given:
        if key not in KEYWORDS:
            hint = did_you_mean(key, KEYWORDS) or f"; known: {', '.join(KEYWORDS)}"
            yield f"the mark has no argument {key}={hint}"
    if "lock" in given and not _are_names(given["lock"]):
        yield f"lock= takes a name or a list of names, not {given['lock']!r}"
    if "exclusive" in given and not isinstance(given["exclusive"], bool):
        yield f"exclusive= takes True or False, not {given['exclusive']!r}"
    if "weight" in given and not _is_weight(given["weight"]):
        yield f"weight= takes a whole number, 1 or more, not {given['weight']!r}"
    if "fresh" in given:
        yield from _fresh_problems(mark, given["fresh"])


def _fresh_problems(mark: pytest.Mark, fresh: Any) -> Iterator[str]:
    if not isinstance(fresh, bool) and fresh != _ON_RERUN:
        hint = did_you_mean(fresh, [_ON_RERUN]) if isinstance(fresh, str) else ""
        yield f"fresh= takes True, False or {listed([_ON_RERUN])}, not {fresh!r}{hint}"
    elif fresh and not mark.args:
        yield "fresh= needs the name of a service"


def _names(lock: Any) -> Iterable[str]:
    return () if lock is None else (lock,) if isinstance(lock, str) else lock


def _are_names(lock: Any) -> bool:
    if isinstance(lock, str):
        return bool(lock)
    return (
        isinstance(lock, list | tuple | set | frozenset)
        and bool(lock)
        and all(isinstance(name, str) and name for name in lock)
    )


def _is_weight(weight: Any) -> bool:
    return isinstance(weight, int) and not isinstance(weight, bool) and weight >= 1

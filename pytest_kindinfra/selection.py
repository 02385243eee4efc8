"""What the selected tests need: marks and fixtures, read in the process that collected them.

Only it and the other modules of the edge know pytest's items.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MARK = "kindinfra"
FIXTURES = frozenset({"kindinfra", "kind_cluster", "kubeconfig", "kindinfra_namespace"})
"""Fixtures that need the cluster: asking for one counts as a mark without a name."""

_NEEDS: pytest.StashKey[frozenset[str] | None] = pytest.StashKey()
_NAMED_TESTS = 2


def needs_of(item: pytest.Item) -> frozenset[str] | None:
    """Return the services that a test needs; empty means the bare cluster, None means nothing."""
    if _NEEDS not in item.stash:
        item.stash[_NEEDS] = _read_needs(item)
    return item.stash[_NEEDS]


def _read_needs(item: pytest.Item) -> frozenset[str] | None:
    marks = list(item.iter_markers(MARK))
    if marks:
        return frozenset(name for mark in marks for name in mark.args if isinstance(name, str))
    if FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return None
    return frozenset()


def needs_last(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the items with those that need nothing first, otherwise in their order."""
    return sorted(items, key=lambda item: needs_of(item) is not None)


def request_of(items: Iterable[pytest.Item]) -> dict[str, Any] | None:
    """Return what the items need all together, None if that is nothing.

    Returns:
        `services`: name to the ids of the first tests that ask for it; `tests`: how many need
        something; `problems`: a sentence for each mark that makes no sense.
    """
    services: dict[str, list[str]] = {}
    problems: dict[str, None] = {}
    tests = 0
    for item in items:
        if (needs := needs_of(item)) is None:
            continue
        tests += 1
        problems |= dict.fromkeys(_mark_problems(item))
        for name in sorted(needs):
            asking = services.setdefault(name, [])
            if len(asking) < _NAMED_TESTS:
                asking.append(item.nodeid)
    if not tests:
        return None
    return {"services": services, "tests": tests, "problems": list(problems)}


def _mark_problems(item: pytest.Item) -> Iterable[str]:
    for mark in item.iter_markers(MARK):
        if mark.kwargs:
            yield f"{item.nodeid}: the mark takes names of services only, not {mark.kwargs}"
        for name in mark.args:
            if not isinstance(name, str):
                yield f"{item.nodeid}: the mark takes names of services, not {name!r}"

"""Order things so that whatever they need comes first, or name the cycles that forbid it.

Pure, and it must not know services or images: nodes are names, edges a mapping.
"""

from __future__ import annotations

import graphlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def in_order(wanted: Iterable[str], needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the wanted names with all that they need, each after what it needs.

    Args:
        wanted: Names to begin with.
        needs: Every known name to the names it needs; its own order decides between names that
            do not need each other. Names it does not know are left out.

    Returns:
        An order that depends on `needs` alone, not on the order of `wanted`.
    """
    reachable = _reachable(wanted, needs)
    return [name for name in _all_in_order(needs) if name in reachable]


def _reachable(wanted: Iterable[str], needs: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name for name in wanted if name in needs]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [need for need in needs[name] if need in needs]
    return found


def _all_in_order(needs: Mapping[str, Sequence[str]]) -> list[str]:
    position = {name: index for index, name in enumerate(needs)}
    begun: set[str] = set()  # a cycle ends at what was started; `cycles` names it
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in begun:
            return
        begun.add(name)
        known = [need for need in needs[name] if need in needs]
        for need in sorted(known, key=position.__getitem__):
            visit(need)
        ordered.append(name)

    for name in needs:
        visit(name)
    return ordered


def cycles(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return each cycle as `a needs b needs a`; cycles that share an edge may count as one."""
    remaining = {name: [need for need in wanted if need in needs] for name, wanted in needs.items()}
    found = []
    while cycle := _first_cycle(remaining):
        found.append(" needs ".join(cycle))
        remaining[cycle[0]].remove(cycle[1])
    return found


def _first_cycle(needs: Mapping[str, Sequence[str]]) -> list[str]:
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError as error:
        # It lists each node before the one that needs it.
        return list(reversed(error.args[1]))
    return []

"""Which services the selected tests need, from their marks and fixtures."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

from pytest_kindinfra import hookspecs
from pytest_kindinfra.session.marks import MARK, problems_of, takes_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pytest


_CONFTEST = f"{os.sep}conftest.py"


def known_conftests(config: pytest.Config) -> frozenset[str]:
    """Return the conftests that are loaded by now: the initial ones, if called in time."""
    names = (name for name, _ in config.pluginmanager.list_name_plugin())
    return frozenset(name for name in names if name.endswith(_CONFTEST))


def nested_hooks(config: pytest.Config, initial: frozenset[str]) -> Iterator[str]:
    """Yield a sentence for each hook of ours in a conftest that is not an initial one.

    Args:
        config: pytest's, after collection.
        initial: What `known_conftests` returned before it.
    """
    root = f"{config.rootpath}{os.sep}"
    for hook in _our_hooks():
        for one in getattr(config.hook, hook).get_hookimpls():
            if one.plugin_name.endswith(_CONFTEST) and one.plugin_name not in initial:
                yield (
                    f"{one.plugin_name.removeprefix(root)}: {hook} is never called from there "
                    "under xdist; it belongs into the rootdir's conftest.py, one that the "
                    "arguments or testpaths name, or a plugin"
                )


def _our_hooks() -> list[str]:
    found = inspect.getmembers(hookspecs, inspect.isfunction)
    return [name for name, _ in found if name.startswith("pytest_kindinfra_")]


FIXTURES = frozenset(
    {
        *("kindinfra", "kind_cluster", "kubeconfig", "kindinfra_namespace", "kindinfra_apply"),
        *("kindinfra_http", "kindinfra_worker_namespace", "kindinfra_docker"),
    }
)
"""Fixtures that need the cluster: asking for one counts as a mark without a name."""


_CLUSTER = "kindinfra"
"""The fixture that waits for the cluster; the others ask for it."""


_PACKAGE = "pytest_kindinfra."


_NAMED_TESTS = 2


def needs_of(item: pytest.Item) -> frozenset[str] | None:
    """Return the services that a test needs; empty means the bare cluster, None means nothing.

    Read anew at each call: hooks and fixtures may add marks at any time.
    """
    marks = list(item.iter_markers(MARK))
    if marks:
        return frozenset(name for mark in marks for name in mark.args if isinstance(name, str))
    return frozenset() if _requests_cluster(item) else None


def _requests_cluster(item: pytest.Item) -> bool:
    """Whether a fixture that the test requests leads to this plugin's `kindinfra`.

    A fixture of the same name that replaces one of this plugin without requesting it leads nowhere.
    """
    names: Sequence[str] = getattr(item, "fixturenames", ())
    known: Mapping[str, Any] = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    if FIXTURES.isdisjoint(names) and all(name in known for name in names):
        return False
    fixtures = _Fixtures(lambda name: known.get(name) or _definitions(item, name))
    return any(fixtures.lead_to_cluster(name, ()) for name in names)


def _definitions(item: pytest.Item, name: str) -> Sequence[Any]:
    """Look up a fixture that a plugin added to an item, or that pytest found no need to list."""
    if name in getattr(getattr(item, "callspec", None), "params", ()):
        return ()  # a parameter of the test, whatever fixture has its name
    fixtures: Any = getattr(item.session, "_fixturemanager", None)
    return (fixtures.getfixturedefs(name, item) if fixtures else None) or ()


def _is_own(function: object) -> bool:
    return str(getattr(function, "__module__", "")).startswith(_PACKAGE)


class _Fixtures:
    """Fixtures as pytest resolves them for one test.

    Args:
        definitions: Gives the definitions of a name that the test sees, the nearest last.
    """

    def __init__(self, definitions: Callable[[str], Sequence[Any]]) -> None:
        self._definitions = definitions
        self._seen: set[tuple[str, ...]] = set()

    def lead_to_cluster(self, name: str, chain: tuple[str, ...]) -> bool:
        """Whether a request for `name` sets up this plugin's `kindinfra`.

        Args:
            name: Of the requested fixture.
            chain: The overridden fixtures that are being set up for it: a fixture that requests
                its own name, directly or not, gets the definition that it overrides.
        """
        found = self._definitions(name)
        depth = chain.count(name) + 1
        if depth > len(found) or (name, *chain) in self._seen:
            return False
        self._seen.add((name, *chain))
        definition = found[-depth]
        if name == _CLUSTER and _is_own(definition.func):
            return True
        below = tuple(sorted((*chain, name))) if len(found) > 1 else chain
        return any(self.lead_to_cluster(one, below) for one in definition.argnames)


def needs_last(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the items with those that need nothing first, otherwise in their order."""
    return sorted(items, key=lambda item: needs_of(item) is not None)


def request_of(items: Sequence[pytest.Item]) -> dict[str, Any] | None:
    """Return what the items need all together, None if that is nothing.

    Returns:
        `services`: name to the ids of the first tests that ask for it; `tests`: how many need
        something; `problems`: a sentence for each mark that makes no sense; `turns`: whether some
        tests may not run beside others.
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
    turns = not problems and takes_turns(items)
    return {"services": services, "tests": tests, "problems": list(problems), "turns": turns}


def _mark_problems(item: pytest.Item) -> Iterable[str]:
    for mark in item.iter_markers(MARK):
        yield from (f"{item.nodeid}: {problem}" for problem in problems_of(mark))
        for name in mark.args:
            if not isinstance(name, str):
                yield f"{item.nodeid}: the mark takes names of services, not {name!r}"

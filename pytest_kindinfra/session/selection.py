"""What the selected tests need: services, turns, fresh services; from their marks and fixtures."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest

from pytest_kindinfra import hookspecs
from pytest_kindinfra.errors import did_you_mean, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_kindinfra.state.records import Needs, Turn


MARK = "kindinfra"


_CONFTEST = f"{os.sep}conftest.py"


def known_conftests(config: pytest.Config) -> frozenset[str]:
    """Return the conftests that are loaded by now: the initial ones, if called in time."""
    names = (name for name, _ in config.pluginmanager.list_name_plugin())
    return frozenset(name for name in names if name.endswith(_CONFTEST))


def nested_hooks(config: pytest.Config, initial: frozenset[str]) -> Iterator[str]:
    """Yield a sentence for each of the plugin's hooks in a conftest that is not an initial one.

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
                    "under xdist; move it to the rootdir's conftest.py, to one that the "
                    "arguments or testpaths name, or to a plugin"
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


_REQUESTS: pytest.StashKey[tuple[tuple[str, ...], bool]] = pytest.StashKey()
"""The fixtures that a test requests, and whether one of them leads to the cluster."""


def needs_of(item: pytest.Item) -> frozenset[str] | None:
    """Return the services that a test needs; empty means the bare cluster, None means nothing.

    Marks are read again at each call: hooks and fixtures may add marks at any time.
    """
    marks = list(item.iter_markers(MARK))
    if marks:
        return frozenset(name for mark in marks for name in mark.args if isinstance(name, str))
    return frozenset() if _requests_cluster(item) else None


def _requests_cluster(item: pytest.Item) -> bool:
    """Whether a fixture that the test requests leads to this plugin's `kindinfra`.

    Looked up once for the same fixtures: it takes longer than all else that a test without a mark
    costs.
    """
    names = tuple(getattr(item, "fixturenames", ()))
    looked_up, leads = item.stash.get(_REQUESTS, ((), False))
    if names != looked_up:
        leads = _lead_to_cluster(item, names)
        item.stash[_REQUESTS] = (names, leads)
    return leads


def _lead_to_cluster(item: pytest.Item, names: Sequence[str]) -> bool:
    """Look up whether one of the fixtures leads to this plugin's `kindinfra`.

    A fixture of the same name that replaces one of this plugin without requesting it leads nowhere.
    """
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


def all_needs(items: Sequence[pytest.Item]) -> Needs | None:
    """Return what the items need all together, None if that is nothing."""
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
    from pytest_kindinfra.state.records import Needs

    return Needs(
        services={name: tuple(asking) for name, asking in services.items()},
        tests=tests,
        problems=tuple(problems),
        turns=not problems and takes_turns(items),
    )


def _mark_problems(item: pytest.Item) -> Iterable[str]:
    for mark in item.iter_markers(MARK):
        yield from (f"{item.nodeid}: {problem}" for problem in problems_of(mark))
        for name in mark.args:
            if not isinstance(name, str):
                yield f"{item.nodeid}: the mark takes names of services, not {name!r}"


KEYWORDS = ("exclusive", "fresh", "lock", "weight")


Fresh = Literal["", "always", "on-rerun"]


_ON_RERUN: Fresh = "on-rerun"


class Heavy(NamedTuple):
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
        from pytest_kindinfra.state.records import Turn

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

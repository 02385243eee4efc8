"""Our hooks in conftests that only collection loads, which is too late for the controller.

Under xdist the controller collects nothing and so never loads them: what they say would count
without `-n` and silently not with it. So they are refused in both cases.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING

from pytest_kindinfra import hookspecs

if TYPE_CHECKING:
    from collections.abc import Iterator

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

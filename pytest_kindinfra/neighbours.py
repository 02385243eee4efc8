"""What we must know of plugins beside us: pytest-xdist and pytest-timeout.

Both may be missing; what is theirs is asked by name. It must not know what a run does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

_TIMEOUT = ("timeout", "pytest_timeout")
"""A plugin's name as an entry point, and as a module after `-p`."""

_REMOTE = ("ssh=", "socket=")


def has_timeout(item: pytest.Item) -> bool:
    """Whether pytest-timeout is going to time this test, by any of its ways to say so."""
    config = item.config
    if not _is_loaded(config, _TIMEOUT):
        return False
    said = (config.getoption("timeout", None), config.getini("timeout"))
    return bool(item.get_closest_marker("timeout") or any(said) or os.getenv("PYTEST_TIMEOUT"))


def remote_workers(config: pytest.Config) -> str:
    """Return the words of the command line that put xdist's workers on other machines."""
    return " ".join(_remote_words(config))


def _remote_words(config: pytest.Config) -> Iterator[str]:
    for flag in ("px", "tx"):
        for spec in config.getoption(flag, None) or ():
            if any(kind in spec for kind in _REMOTE):
                yield f"--{flag} {spec}"


def _is_loaded(config: pytest.Config, names: tuple[str, str]) -> bool:
    return any(config.pluginmanager.hasplugin(name) for name in names)

"""What we must know of other plugins: pytest-xdist, -timeout, -rerunfailures, pytest-kind.

All of them may be missing; what is theirs is asked by name. It must not know what a run does.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


_TIMEOUT = ("timeout", "pytest_timeout")
"""A plugin's name as an entry point, and as a module after `-p`."""


_RERUNS = ("rerunfailures", "pytest_rerunfailures")


_KIND = ("pytest-kind", "pytest_kind.plugin")


_REMOTE = ("ssh=", "socket=")


def has_timeout(item: pytest.Item) -> bool:
    """Whether pytest-timeout is going to time this test, by any of its ways to say so."""
    config = item.config
    if not _is_loaded(config, _TIMEOUT):
        return False
    said = (config.getoption("timeout", None), config.getini("timeout"))
    return bool(item.get_closest_marker("timeout") or any(said) or os.getenv("PYTEST_TIMEOUT"))


def forbid_reruns(item: pytest.Item) -> None:
    """Have pytest-rerunfailures not run a test again that fails in this attempt.

    After each attempt it reads `condition` of the closest `flaky` mark, with `--reruns` and
    `--force-reruns` too; tried with its versions 10.3 to 16.7.
    """
    if _is_loaded(item.config, _RERUNS):
        item.add_marker(pytest.mark.flaky(reruns=0, condition=False), append=False)


def check_neighbours(config: pytest.Config) -> None:
    """Warn of pytest-kind, and refuse xdist workers on other machines.

    Raises:
        pytest.UsageError: The command line puts workers on other machines.
    """
    _warn_of_pytest_kind(config)
    _refuse_remote_workers(config)


def _warn_of_pytest_kind(config: pytest.Config) -> None:
    """Warn if pytest-kind is loaded too: which of the two `kind_cluster` tests get is chance."""
    if _is_loaded(config, _KIND):
        name = next(one for one in _KIND if config.pluginmanager.hasplugin(one))
        msg = (
            "pytest-kind and pytest-kindinfra are loaded, and both have a fixture kind_cluster: "
            f"add -p no:{name}, or uninstall pytest-kind"
        )
        config.issue_config_time_warning(pytest.PytestConfigWarning(msg), stacklevel=2)


def _refuse_remote_workers(config: pytest.Config) -> None:
    """Refuse xdist workers on other machines: they cannot see a lock on a file."""
    if words := " ".join(_remote_words(config)):
        msg = (
            f"kindinfra: {words}: workers must run on this machine, since they "
            "share files and a lock\nTo fix: use -n, or -p no:kindinfra"
        )
        raise pytest.UsageError(msg)


def _remote_words(config: pytest.Config) -> Iterator[str]:
    for flag in ("px", "tx"):
        for spec in config.getoption(flag, None) or ():
            if any(kind in spec for kind in _REMOTE):
                yield f"--{flag} {spec}"


def start_no_workers(config: pytest.Config) -> int:
    """Have xdist leave this session to the one process, as it does for `--collect-only`.

    Returns:
        How many workers it would have started; 0 without xdist.
    """
    option, workers = config.option, 0
    if hasattr(option, "numprocesses"):
        if option.dist != "no":
            workers = sum(_times(spec) for spec in option.tx or ())
        option.dist, option.tx, option.numprocesses = "no", [], 0
    return workers


def _times(spec: str) -> int:
    """Return how many workers a `--tx` means: `3*popen` three."""
    number, star, _ = spec.partition("*")
    return int(number) if star and number.isdecimal() else 1


def stops_early(node: Any) -> bool:
    """Whether xdist is ending the run before its end, as far as a worker that ended tells."""
    session = node.config.pluginmanager.get_plugin("dsession")
    output: dict[str, Any] = getattr(node, "workeroutput", None) or {}
    said = (getattr(session, "shouldstop", None), *map(output.get, ("shouldfail", "shouldstop")))
    return any(said)


def _is_loaded(config: pytest.Config, names: tuple[str, str]) -> bool:
    return any(config.pluginmanager.hasplugin(name) for name in names)

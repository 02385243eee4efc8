"""The plugin's options on pytest's command line, and what else is known before collection."""

from __future__ import annotations

import inspect
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_kindinfra import hookspecs
from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.frozen import Frozen
from pytest_kindinfra.plan.options import OPTIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest


class Outline(Frozen):
    """What is known before collection.

    Attributes:
        settings: The options.
        source: The declaration's file name, None if there is none.
        services: How many services it declares.
    """

    settings: Settings
    source: str | None = None
    services: int = 0

    def header(self, root: Path, run_id: str) -> str | None:
        """Return the line for the report header, None where nothing is declared.

        Args:
            root: The declaration's folder.
            run_id: Of the run that may begin.
        """
        if self.source is None:
            return None
        from pytest_kindinfra.state.runnames import cluster_name

        settings = self.settings
        context = f", context {settings.context}" if settings.context else ""
        cluster = f"of {settings.kubeconfig}{context}"
        if settings.kubeconfig is None:
            named, reuse = settings.cluster_name, settings.reuse
            cluster = cluster_name(root, named=named, reuse=reuse, run_id=run_id)
        noun = "service" if self.services == 1 else "services"  # `count` is in a heavy module
        declared = f"{self.services} {noun} in {self.source}"
        return f"kindinfra: cluster {cluster}, engine {settings.engine}, {declared}"


def look(config: pytest.Config) -> Outline:
    """Read the options.

    Raises:
        DeclarationError: The command line or the environment has a value that cannot be used.
    """
    from pytest_kindinfra.plan.files import load_tables
    from pytest_kindinfra.plan.settings import read_settings

    # A run that needs nothing must not fail by a variable that is not ours.
    settings, problems = read_settings(config.getoption, (), source=None, overrides=False)
    if problems:
        raise DeclarationError(problems)
    pairs: tuple[tuple[str, Any], ...] = ()
    source, services = None, 0
    with suppress(DeclarationError, TypeError, AttributeError):
        if loaded := load_tables(config.rootpath):
            tables, source = loaded
            services = len(tables.get("services", ()))
            pairs = tuple(tables.get("options", {}).items())
    if pairs:
        settings, _ = read_settings(config.getoption, pairs, source=source, overrides=False)
    return Outline(settings=settings, source=source, services=services)


def add_options(parser: pytest.Parser) -> None:
    """Add every option to pytest's command line."""
    group = parser.getgroup("kindinfra", "kindinfra (services on a kind cluster)")
    for option in OPTIONS:
        kind: dict[str, Any] = {"action": "store_const", "const": "true"}
        if option.metavar:
            kind = {"metavar": option.metavar}
        group.addoption(option.flag, dest=option.dest, default=None, help=option.help, **kind)


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

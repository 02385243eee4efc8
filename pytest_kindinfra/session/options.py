"""The plugin's options on pytest's command line, and what is known before collection."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_kindinfra.errors import DeclarationError
from pytest_kindinfra.plan.options import OPTIONS, Settings, read_settings

if TYPE_CHECKING:
    import pytest


class Outline(NamedTuple):
    """What is known before collection.

    Attributes:
        settings: The options.
        source: The declaration's file name, None if there is none.
        services: How many services it declares.
    """

    settings: Settings
    source: str | None = None
    services: int = 0


def look(config: pytest.Config) -> Outline:
    """Read the options.

    Raises:
        DeclarationError: The command line or the environment has a value that cannot be used.
    """
    from pytest_kindinfra.plan.files import load_tables

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

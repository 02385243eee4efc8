"""The live board below pytest's own output: when it is shown, and when it makes way."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.run.live import is_for_a_person
from pytest_kindinfra.run.live import open_board as open_live_board

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from pytest_kindinfra.run.live import LiveBoard
    from pytest_kindinfra.run.prepare import Prepared


_PLUGIN = "kindinfra-board"


_SILENT = -2
"""pytest's verbosity with `-q -q`."""


def open_board(config: pytest.Config, prepared: Prepared, *, since: float) -> LiveBoard | None:
    """Return a board below pytest's output, None if none is to be shown.

    With `-s` none is, since what tests print would go through it.

    Args:
        config: pytest's.
        prepared: What is brought up.
        since: When the run began, in seconds since the epoch.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:  # nor is there its option
        return None
    option = config.option
    quiet = option.verbose <= _SILENT or getattr(option, "capture", "no") != "fd"
    if quiet or not is_for_a_person(prepared.settings, os.environ):
        return None
    writer = config.get_terminal_writer()
    board = open_live_board(
        prepared,
        since=since,
        color=bool(reporter.hasmarkup),
        column=lambda: writer.width_of_current_line,
    )
    if board:
        config.pluginmanager.register(_MakesWay(board), _PLUGIN)
    return board


def hidden_board(config: pytest.Config) -> AbstractContextManager[None]:
    """Hide the board, if there is one, during the block, in which the terminal is read."""
    plugin: _MakesWay | None = config.pluginmanager.getplugin(_PLUGIN)
    return plugin.hidden() if plugin else nullcontext()


class _MakesWay:
    """Hides the board while a debugger or a pause reads from the terminal."""

    def __init__(self, board: LiveBoard) -> None:
        self._screen = board.screen

    @contextmanager
    def hidden(self) -> Iterator[None]:
        self._screen.hide()
        try:
            yield
        finally:
            self._screen.unhide()

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        """Make way for the debugger."""
        self._screen.hide()

    @pytest.hookimpl
    def pytest_leave_pdb(self) -> None:
        """Come back."""
        self._screen.unhide()

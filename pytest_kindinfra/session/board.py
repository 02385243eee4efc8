"""The live board below pytest's own output: when it is shown, and when it makes way."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_kindinfra.run.live import is_for_a_person
from pytest_kindinfra.run.live import open_board as open_live_board

if TYPE_CHECKING:
    from pytest_kindinfra.run.live import LiveBoard
    from pytest_kindinfra.run.prepare import Prepared


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
    option = config.option
    quiet = option.verbose <= _SILENT or getattr(option, "capture", "no") != "fd"
    if reporter is None or quiet or not is_for_a_person(prepared.settings, os.environ):
        return None
    writer = config.get_terminal_writer()
    board = open_live_board(
        prepared,
        since=since,
        color=bool(reporter.hasmarkup),
        column=lambda: writer.width_of_current_line,
    )
    if board:
        config.pluginmanager.register(_Debugging(board), "kindinfra-board")
    return board


class _Debugging:
    """Hides the board while a debugger reads from the terminal."""

    def __init__(self, board: LiveBoard) -> None:
        self._board = board

    @pytest.hookimpl(tryfirst=True)
    def pytest_enter_pdb(self) -> None:
        """Make way for the debugger."""
        self._board.screen.hide()

    @pytest.hookimpl
    def pytest_leave_pdb(self) -> None:
        """Come back."""
        self._board.screen.unhide()

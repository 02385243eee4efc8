"""What a run shows while it lasts: progress lines."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


class Terminal:
    """Writes lines of the provisioner to pytest's terminal where they disturb nothing.

    Where tests run in other processes a line is written at once, from any thread; else it waits
    for the main thread, which writes it while a test waits, and at the end of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._waiting: deque[str] = deque()
        self._lock = threading.RLock()
        self._direct = config.pluginmanager.hasplugin("dsession")
        if self._direct:
            config.pluginmanager.register(self, "kindinfra-progress")

    def say(self, line: str) -> None:
        """Take a line, from any thread."""
        self._waiting.append(line)
        if self._direct:
            self._write()

    def let_out(self) -> None:
        """Write what waits; to be called by the main thread."""
        if not self._waiting:
            return
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None:
            self._write()
            return
        with capture.global_and_fixture_disabled():
            self._write()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self) -> Generator[None, Any, Any]:
        """Print no line between a test's name and its line's end."""
        with self._lock:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        """Let no dot come between our look at the terminal and our line."""
        with self._lock:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logfinish(self) -> Generator[None, Any, Any]:
        """As the others: here pytest writes the percentage."""
        with self._lock:
            return (yield)

    def _write(self) -> None:
        with self._lock:
            while self._waiting:
                write_line(self._config, self._waiting.popleft())


def write_line(config: pytest.Config, line: str) -> None:
    """Write a line of its own to the terminal, also after a row of dots.

    If it is not read any more (`pytest | head`, a connection that was dropped), it is lost and the
    work goes on.
    """
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return
    with suppress(Exception):
        reporter.ensure_newline()
        if config.get_terminal_writer().width_of_current_line:  # dots of xdist's workers
            reporter.write_line("")
        reporter.write_line(line)
        reporter.flush()  # or a log that is no terminal has it only when the run is over

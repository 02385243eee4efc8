"""Lines about a bring-up, from its threads to the terminal, while tests run.

In xdist's controller no test runs, so lines are written as they come, between two words of
pytest's own. In a process that runs tests itself pytest captures all output, the terminal's too;
there lines wait until the main thread, between tests or waiting for a service, lets them out.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kindinfra.terminal import heartbeat_line, progress_line, running_line
from pytest_kindinfra.timeline import now

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from pytest_kindinfra.model import Phase
    from pytest_kindinfra.settings import Progress
    from pytest_kindinfra.timeline import Running

HEARTBEAT = 30.0
"""Seconds after which a line says what a build printed last."""

TROUBLE = 10.0
"""Seconds after which a line says again what keeps a service from being ready."""

_SOON = {"deploy": 5.0, "wait": TROUBLE}
"""Seconds for what tells of trouble, not of progress: the server's sentence about an object, and
what keeps a service from being ready."""

_SILENCE = 15.0
"""Seconds after which a line says what goes on."""


class Heartbeats:
    """Which of the phases that print something are to be told about: each once in a while.

    A silence of all is rare while many things go on, so a build that hangs among them would
    not be seen.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, float], float] = {}

    def due(self, running: Iterable[Running], *, at: float) -> list[Running]:
        """Return those that have gone on for so long since their start, or since the last time."""
        printing = [one for one in running if one.says()]
        due = [one for one in printing if self._is_due(one, at)]
        self._told |= {one[:3]: at for one in due}
        return due

    def _is_due(self, one: Running, at: float) -> bool:
        every = TROUBLE if one.kind == "wait" else HEARTBEAT
        if (told := self._told.get(one[:3])) is not None:
            return at - told >= every
        return at - one.start >= _SOON.get(one.kind, HEARTBEAT)


class ProgressLines:
    """Shows the phases of a bring-up as they end."""

    def __init__(self, config: pytest.Config, *, how: Progress, since: float) -> None:
        self._config = config
        self._how = how
        self._since = since
        self._last = since
        self._heartbeats = Heartbeats()
        self._waiting: deque[str] = deque()
        self._terminal = threading.RLock()
        self._direct = config.pluginmanager.hasplugin("dsession")
        if self._direct:
            config.pluginmanager.register(self, "kindinfra-progress")

    def __call__(self, phase: Phase, ended: bool) -> None:  # noqa: FBT001 - Timeline calls it so
        """Take the start or the end of a phase, from any thread."""
        if self._how == "off" or not (ended or self._how == "plain"):
            return
        self._add(progress_line(phase, ended=ended, since=self._since))

    def say(self, text: str) -> None:
        """Say something of the bring-up as a whole, however little is wanted."""
        self._add(f"kindinfra: {text}")

    def beat(self, running: tuple[Running, ...]) -> None:
        """Say what takes long and what it printed last, and what goes on after a silence.

        Args:
            running: The phases that have not ended.
        """
        if self._how == "off":
            return
        for one in self._heartbeats.due(running, at=now()):
            self._add(heartbeat_line(one, at=now(), since=self._since))
        if running and now() - self._last >= _SILENCE:
            self._add(running_line(running, at=now(), since=self._since))

    def _add(self, line: str) -> None:
        self._last = now()
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
        """Let no line of ours come between a test's name and its line's end."""
        with self._terminal:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        """Let no dot come between our look at the terminal and our line."""
        with self._terminal:
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logfinish(self) -> Generator[None, Any, Any]:
        """As the others: here pytest writes the percentage."""
        with self._terminal:
            return (yield)

    def _write(self) -> None:
        with self._terminal:
            while self._waiting:
                write_line(self._config, self._waiting.popleft())


def write_line(config: pytest.Config, line: str) -> None:
    """Write a line of its own to the terminal, also after a row of dots.

    If nobody reads it any more (`pytest | head`, a connection that was dropped), it is lost and the
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

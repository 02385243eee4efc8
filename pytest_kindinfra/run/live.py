"""The live board: draws what is known whenever that changes, and each second for the clock.

A thread of its own draws, so that what reports to the board never waits for the terminal.
"""

from __future__ import annotations

import os
import sys
from _queue import Empty, SimpleQueue
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from pytest_kindinfra.system.channel import run_in_thread
from pytest_kindinfra.system.screen import Screen
from pytest_kindinfra.system.timeline import now, sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_kindinfra.model import Plan
    from pytest_kindinfra.plan.options import Settings
    from pytest_kindinfra.run.board import Scene
    from pytest_kindinfra.run.messages import Progress
    from pytest_kindinfra.run.prepare import Prepared


_EVERY = 1.0


_AT_MOST_EVERY = 0.1


_WAITS_FOR_THREAD = 2.0


def is_for_a_person(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether a board may be shown: standard output is a terminal with a user before it.

    Args:
        settings: The options.
        environ: The variables of the environment.
    """
    if settings.board == "off" or settings.progress != "auto":
        return False
    if environ.get("CI") or environ.get("TERM", "dumb") in {"", "dumb", "unknown"}:
        return False
    return sys.stdout is sys.__stdout__ and _is_tty(sys.stdout)


def open_board(
    prepared: Prepared, *, since: float, color: bool, column: Callable[[], int] = lambda: 0
) -> LiveBoard | None:
    """Return a board on standard output, None if that is no terminal after all.

    Args:
        prepared: What is brought up.
        since: When the run began, in seconds since the epoch.
        color: Whether escape codes for colours are wanted.
        column: Gives the width of the line that is being written, as far as it is known.
    """
    from pytest_kindinfra.run.board import Scene

    scene = Scene(
        plan=prepared.plan,
        cluster=prepared.request.cluster,
        since=since,
        seconds=_seconds(prepared.request.cache, prepared.plan),
    )
    streams = [one for one in (sys.stdout, sys.stderr) if _is_tty(one)]
    try:
        screen = Screen(streams, column=column)
    except (OSError, ValueError):
        return None
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return LiveBoard(scene, screen, color=color, unicode=encoding == "utf8")


class Board(Protocol):
    """Shows how far a bring-up has come."""

    def take(self, progress: Progress) -> None:
        """Show how far everything has come; from any thread, but from one at a time."""
        ...

    def end(self) -> None:
        """Show from now on only what the end of the run does."""
        ...

    def close(self) -> None:
        """Take it away for good; a second call does nothing."""
        ...


class NoBoard:
    """Shows nothing, where no person looks at a terminal."""

    def take(self, progress: Progress) -> None:
        """See `Board`."""

    def end(self) -> None:
        """See `Board`."""

    def close(self) -> None:
        """See `Board`."""


class LiveBoard:
    """A board on a screen, from its first line until `close`.

    Args:
        scene: What there is to show at first.
        screen: Where it is shown.
        color: Whether escape codes for colours are wanted.
        unicode: Whether the terminal shows more than ASCII.
    """

    def __init__(self, scene: Scene, screen: Screen, *, color: bool, unicode: bool) -> None:
        self.screen = screen
        self._scene = scene
        self._color = color
        self._unicode = unicode
        self._ending = False
        self._closed = False
        self._news: SimpleQueue[None] = SimpleQueue()
        self._over: SimpleQueue[None] = SimpleQueue()
        self._process = os.getpid()
        run_in_thread(self._draw_until_closed)

    def take(self, progress: Progress) -> None:
        """See `Board`."""
        self._scene = self._scene.after(progress)
        self._news.put(None)

    def end(self) -> None:
        """See `Board`."""
        self._ending = True
        self._news.put(None)

    def close(self) -> None:
        """See `Board`."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        self._news.put(None)
        with suppress(Empty):
            self._over.get(timeout=_WAITS_FOR_THREAD)
        self.screen.close()

    def _draw_until_closed(self) -> None:
        with suppress(Exception):  # a board must not disturb what it shows
            while not self._closed:
                self._draw()
                with suppress(Empty):
                    self._news.get(timeout=_EVERY)
                    sleep(_AT_MOST_EVERY)
                while not self._news.empty():
                    self._news.get()
        self.screen.show([])
        self._over.put(None)

    def _draw(self) -> None:
        from pytest_kindinfra.run.drawing import Look, draw

        width, height = self.screen.size
        look = Look(width=width, height=height, color=self._color, unicode=self._unicode)
        scene = replace(self._scene, ending=self._ending)  # two threads: messages, and the end
        self.screen.show(draw(scene, look, at=now()))


def _seconds(cache: Path | None, plan: Plan) -> dict[str, float]:
    """Return how long phases took in earlier runs."""
    from pytest_kindinfra.state.memory import read_durations

    return read_durations(cache, plan.declaration.folder)[0] if cache else {}


def _is_tty(stream: object) -> bool:
    with suppress(AttributeError, ValueError):
        return bool(stream.isatty())  # type: ignore[attr-defined]
    return False

"""What a bring-up says of itself while it lasts: a line for a phase, and lines in a silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kindinfra.run.report import SHORT, heartbeat_line, progress_line, running_line
from pytest_kindinfra.system.timeline import now, phase_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_kindinfra.model import Phase
    from pytest_kindinfra.plan.options import Progress
    from pytest_kindinfra.system.timeline import Running


_SILENCE = 15.0
"""Seconds after which a line says what goes on."""


class Heartbeats:
    """Selects the phases that are due for a progress line.

    A silence of all is rare while many things go on, so a build that hangs among them would
    not be seen.
    """

    def __init__(self) -> None:
        self._announced: dict[tuple[str, str, float], float] = {}

    def due(self, running: Iterable[Running], *, at: float) -> list[Running]:
        """Return those that have gone on for so long since their start, or since the last time."""
        printing = [one for one in running if one.says()]
        due = [one for one in printing if self._is_due(one, at)]
        self._announced |= {one[:3]: at for one in due}
        return due

    def _is_due(self, one: Running, at: float) -> bool:
        kind, announced = phase_kind(one.kind), self._announced.get(one[:3])
        if announced is not None:
            return at - announced >= kind.next_line
        return at - one.start >= kind.first_line


class ProgressLines:
    """Reports the phases of a bring-up.

    Args:
        write: Called with each line, from any thread.
        how: How much is wanted; `auto` leaves phases out that were good within 0.2 s.
        since: When the run began, in seconds since the epoch.
        write_short: Called with the lines of those that are left out.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        how: Progress,
        since: float,
        write_short: Callable[[str], object],
    ) -> None:
        self._write = write
        self._write_short = write_short
        self._how = how
        self._since = since
        self._last = since
        self._heartbeats = Heartbeats()

    def __call__(self, phase: Phase, ended: bool) -> None:  # noqa: FBT001 - Timeline calls it so
        """Take the start or the end of a phase, from any thread."""
        if self._how == "off" or not (ended or self._how == "plain"):
            return
        line = progress_line(phase, ended=ended, since=self._since)
        short = phase.ok and not phase.note and phase.end - phase.start < SHORT
        if self._how == "auto" and short:
            self._write_short(line)
        else:
            self._add(line)

    def say(self, text: str) -> None:
        """Say something of the bring-up as a whole, however little is wanted."""
        self._add(f"kindinfra: {text}")

    def heartbeat(self, running: tuple[Running, ...]) -> None:
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
        self._write(line)


def failures_only(write: Callable[[str], object], since: float) -> Callable[[Phase, bool], None]:
    """Return a subscriber that reports only phases that failed, for runs with a board.

    Args:
        write: Called with each line, from any thread.
        since: When the run began, in seconds since the epoch.
    """

    def take(phase: Phase, ended: bool) -> None:  # noqa: FBT001 - Timeline calls it so
        if ended and not phase.ok and not phase.note:
            write(progress_line(phase, ended=True, since=since))

    return take

"""Ctrl-C at random: when in a run, how often, how far apart, to whom. Each seed is one plan."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

GAPS = (0.0, 0.002, 0.02, 0.2, 1.0)
"""Longest distances between two interrupts, in seconds: a bounce of the key to a second thought."""
DELAYS = (0.0, 0.05, 0.5)
"""Longest distances between the moment in the run and the first interrupt, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Interrupting:
    """How one run is interrupted.

    Attributes:
        workers: For `-n`; None leaves xdist out.
        stage: How far the run is when it begins.
        delay: Seconds from there to the first signal.
        gaps: Seconds between one signal and the next.
        sent: The signals.
        group: Whether the whole process group gets them, as from a terminal.
    """

    workers: int | None
    stage: str
    delay: float
    gaps: tuple[float, ...]
    sent: tuple[signal.Signals, ...]
    group: bool


def interrupting(seed: int, stages: Sequence[str]) -> Interrupting:
    """Return the plan of a seed: mostly pairs of SIGINT for the group, while tests run."""
    chance = Random(seed)  # noqa: S311 - no secret
    count = chance.choice((2, 2, 3))
    numbers = (signal.SIGINT,) * 6 + (signal.SIGTERM, signal.SIGHUP)
    return Interrupting(
        workers=chance.choice((None, 2, 4, 4)),
        stage=chance.choice((*stages, stages[-1])),
        delay=chance.uniform(0, chance.choice(DELAYS)),
        gaps=tuple(chance.uniform(0, chance.choice(GAPS)) for _ in range(count - 1)),
        sent=tuple(chance.choice(numbers) for _ in range(count)),
        group=chance.random() < 0.7,
    )


def interrupt(process: subprocess.Popen[str] | subprocess.Popen[bytes], how: Interrupting) -> int:
    """Send the signals to a run that leads a process group; return how many it lived to see."""
    time.sleep(how.delay)
    for number, (sent, gap) in enumerate(zip(how.sent, (*how.gaps, 0.0), strict=True)):
        if process.poll() is not None:
            return number
        with suppress(ProcessLookupError):
            (os.killpg if how.group else os.kill)(process.pid, sent)
        time.sleep(gap)
    return len(how.sent)

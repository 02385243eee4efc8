"""How far a build has come, by the log that its engine writes with plain progress."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TAIL = 4096


_TAIL_FOR_STEP = 1 << 16
"""Bytes that are searched for the last step; a step that prints more than that is not found."""


_STEP = re.compile(r"^(?:#\d+ \[(?:[^\]\n]* )?|STEP |Step )(\d+/\d+)(?=[\]: ])", re.MULTILINE)
"""`#8 [builder 3/7] RUN` (BuildKit), `STEP 3/7: RUN` (podman), `Step 3/7 : RUN`."""


def last_line(log: Path) -> str:
    """Return the last whole line of a log that is being written, empty if there is none."""
    lines = _tail(log, _TAIL).split("\n")[:-1]
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def last_step(log: Path) -> str:
    """Return the last step that has started and how many there are, `12/20`; empty if unknown."""
    steps = _STEP.findall(_tail(log, _TAIL_FOR_STEP))
    return steps[-1] if steps else ""


def _tail(log: Path, size: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""

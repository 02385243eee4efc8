"""Programs that have this process's terminal: `kindinfra dev` runs the tests so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    open("begun", "w").close()
    time.sleep(30)
except KeyboardInterrupt:
    time.sleep(1)
    open("done", "w").close()
"""
PARENT = """
import os, signal, sys
from pathlib import Path
from pytest_kindinfra.system.programs import run_here
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    run_here([sys.executable, "child.py"], env={}, cwd=Path.cwd())
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_one_that_is_interrupted_gets_the_time_to_end(tmp_path: Path) -> None:
    """Pytest was killed a quarter of a second after Ctrl-C, in the middle of its teardown."""
    (tmp_path / "child.py").write_text(CHILD)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=tmp_path, start_new_session=True,
    )  # fmt: skip
    late = time.monotonic() + 30
    while not (tmp_path / "begun").exists() and time.monotonic() < late:
        time.sleep(0.02)

    os.killpg(parent.pid, signal.SIGINT)

    assert parent.wait(30) == 130
    assert (tmp_path / "done").exists()

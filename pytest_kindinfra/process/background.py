"""Programs that others steer: one that runs beside a block, and `subprocess.check_output`."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, Self

from pytest_kindinfra.process.children import end, start
from pytest_kindinfra.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Sequence


class Background:
    """A program that runs while the block does, and not longer."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv

    def __enter__(self) -> Self:
        """Start it."""
        self._log = tempfile.TemporaryFile()
        self._parent = os.getpid()
        self._process = start(self._argv, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        """End it and what it started; a process forked meanwhile leaves it to its parent."""
        if os.getpid() == self._parent:
            end(self._process)
        self._log.close()

    def output(self) -> str:
        """What it has printed so far."""
        # Not /dev/fd: opening that moves the position of the program's own output on macOS.
        log = self._log.fileno()
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process.poll() is not None


def check_output(argv: Sequence[str], **kwargs: Any) -> str:
    """Run `argv` as `subprocess.check_output` does and return its standard output as text.

    For callers whose users know that function: its arguments and its exceptions are the contract.

    Raises:
        subprocess.CalledProcessError: It ended with another exit code than 0; its command is shown
            without secrets.
    """
    __tracebackhide__ = True  # or pytest's --showlocals would show the words as they are
    try:
        return subprocess.check_output(argv, **{"encoding": "utf-8", **kwargs})  # type: ignore[no-any-return]
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        error.cmd = list(Redactor().words(argv))
        raise error.with_traceback(None) from None

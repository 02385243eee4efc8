"""The one door to other programs: argv lists, always a deadline, nothing left running.

It must not know which programs there are.
"""

from pytest_kindinfra.process.background import Background, check_output
from pytest_kindinfra.process.children import can_kill_with_parent, which
from pytest_kindinfra.process.protocol import Copy, Result, Runner, Sink
from pytest_kindinfra.process.runner import SubprocessRunner

__all__ = [
    "Background",
    "Copy",
    "Result",
    "Runner",
    "Sink",
    "SubprocessRunner",
    "can_kill_with_parent",
    "check_output",
    "which",
]

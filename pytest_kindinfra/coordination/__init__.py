"""What the processes of a run know of each other: one folder, its locks, results written once.

`run.py` is the folder, `state.py` how a file in it appears whole or not at all, `locks.py` the only
user of filelock. None of them knows pytest, xdist or what a result means. The states of a result
and who may change them: docs/how-it-works.md.
"""

from pytest_kindinfra.coordination.locks import (
    Lock,
    held_alone,
    hold,
    hold_within,
    is_held,
    locked,
    locked_for_all_users,
)
from pytest_kindinfra.coordination.run import RunDirectory
from pytest_kindinfra.coordination.state import write_json

__all__ = [
    "Lock",
    "RunDirectory",
    "held_alone",
    "hold",
    "hold_within",
    "is_held",
    "locked",
    "locked_for_all_users",
    "write_json",
]

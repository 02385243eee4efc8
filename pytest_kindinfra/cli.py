"""The `kindinfra` command: what is to be done outside of a test run."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from pytest_kindinfra.errors import KindInfraError
from pytest_kindinfra.steps.sweep import sweep
from pytest_kindinfra.timeline import Deadline
from pytest_kindinfra.wiring import make_tools

if TYPE_CHECKING:
    from collections.abc import Sequence

_GC_SECONDS = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for a failure, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(prog="kindinfra", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("gc", help="Delete the clusters of runs that were killed")
    parser.parse_args(arguments)
    try:
        return _gc()
    except KindInfraError as error:
        sys.stderr.write(f"kindinfra: {error}\n")
        return 1


def _gc() -> int:
    """Delete leftovers, from any folder: each leads to its run directory by itself."""
    provider = make_tools().provider
    swept = sweep(provider, Deadline.after(_GC_SECONDS))
    for name in swept.deleted:
        sys.stdout.write(f"deleted cluster {name}\n")
    for name, why in swept.unclear.items():
        delete = shlex.join(provider.delete_command(name))
        sys.stdout.write(f"left alone: cluster {name}: {why}\n  if nobody uses it: {delete}\n")
    if not swept.deleted and not swept.unclear:
        sys.stdout.write("nothing was left behind\n")
    return 0

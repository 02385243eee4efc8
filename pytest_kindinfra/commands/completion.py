"""`kindinfra completion`: a script that makes a shell complete the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell, made from the command's own arguments.

    Args:
        parser: Of the whole command line.
        shell: bash, zsh or fish.
    """
    import shtab

    return str(shtab.complete(parser, shell=shell))

"""What runs and their clusters are called. Pure.

Each process of pytest in a folder with a declaration loads this module: it imports nothing heavy.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


_LONGEST_WORD = 24
"""Of a container's name, which is a host name too, 63 letters; kind adds `-control-plane2`."""


_DIGITS = 6


def new_run_id() -> str:
    """Return a name for a run that begins now: local time, and six random digits."""
    from datetime import datetime

    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{os.urandom(_DIGITS // 2).hex()}"


def in_names(run_id: str) -> str:
    """Return a run's id as names of Kubernetes objects may have it."""
    return run_id.lower().replace("_", "-")


def name_after(folder: Path) -> str:
    """Return the name of the cluster that runs in `folder` share: `kindinfra-shop-3f2a91`."""
    from hashlib import sha256

    whole = folder.resolve()
    word = re.sub(r"[^a-z0-9]+", "-", whole.name.lower())[:_LONGEST_WORD].strip("-")
    digits = sha256(os.fsencode(whole)).hexdigest()[:_DIGITS]
    return "-".join(part for part in ("kindinfra", word, digits) if part)


def cluster_name(folder: Path, *, named: str | None, reuse: bool, run_id: str) -> str:
    """Return kind's name for the cluster of a run.

    Args:
        folder: The declaration's.
        named: The name that an option gives; None without one.
        reuse: Whether runs in the folder share a cluster.
        run_id: The run's.
    """
    if named:
        return named
    return name_after(folder) if reuse else f"kindinfra-{run_id}"


def group_id(key: str) -> str:
    """Return the id of a group of runs, which is its namespace's name too.

    It is the same on all machines for the same key, and a DNS label: `kindinfra-group-ci-7-3f2a91`.
    """
    from hashlib import sha256

    word = re.sub(r"[^a-z0-9]+", "-", key.lower())[:_LONGEST_WORD].strip("-")
    digits = sha256(key.encode()).hexdigest()[:12]
    return "-".join(part for part in ("kindinfra-group", word, digits) if part)

"""What is written for waiters: a result for the cluster, each image and each service, once.

A failure is a result too. Pure: records in, mappings out.
"""

from __future__ import annotations

import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_kindinfra.errors import (
    SHORT_LINES,
    CancelledError,
    KindInfraError,
    NeedFailedError,
    NothingHereError,
    shortened,
)
from pytest_kindinfra.system.files import DISK_FULL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kindinfra.model import Cluster, Endpoint


BROKEN = "broken-"
"""Names of failed results of images begin so; services have their own."""


LOST = "lost"
"""The name of the result that says that the cluster is gone; there is none while all is well."""


_LINES = SHORT_LINES - 1


_FIRST = 2
"""The first lines name what failed, the last ones say why."""


class BlockedError(NeedFailedError):
    """Something was not tried, because what it needs failed.

    Attributes:
        root: The image, service or cluster with which it began: `image "api"`.
        cause: The text of that failure.
        short: The same in at most five lines.
        missing: It began with an engine or kind that is not here.
    """

    def __init__(self, *, root: str, error: BaseException) -> None:
        self.root = root
        self.missing = is_missing(error)
        self.cause = text_of(error)
        super().__init__(f"{root} failed:\n{self.cause}")
        short = getattr(error, "short", None) or self.cause
        self.short = f"{root} failed:\n{shortened(short, lines=_LINES - 1, first=_FIRST)}"


def cluster_record(cluster: Cluster, *, namespace: str) -> dict[str, Any]:
    """Return the result of a cluster that takes pods."""
    return {
        "state": "ready",
        "name": cluster.name,
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": namespace,
    }


def service_record(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the result of a service that is ready."""
    return {"state": "ready", "endpoints": [asdict(endpoint) for endpoint in endpoints]}


def failure_record(error: BaseException, *, subject: str) -> dict[str, Any]:
    """Return the result that tells waiters of a failure.

    Args:
        error: What was raised; one of ours is shown by its text, a bug by its traceback.
        subject: What is not there: `service "api"`.

    Returns:
        `state`: failed; `short`: at most five lines, for each test that it concerns; `full`:
        the whole cause, shown once; `root`: with what it began; `cancelled`: nothing is wrong,
        the run ended; `missing`: it began with an engine or kind that is not here.
    """
    text = text_of(error)
    full = error.cause if isinstance(error, BlockedError) else text
    short = getattr(error, "short", None) or shortened(text, lines=_LINES, first=_FIRST)
    return {
        "state": "failed",
        "short": f"{subject} is not there: {short}",
        "full": full,
        "root": error.root if isinstance(error, BlockedError) else subject,
        "cancelled": isinstance(error, CancelledError),
        "missing": is_missing(error),
    }


def is_missing(error: BaseException) -> bool:
    """Whether an error says that engine or kind is not here, or comes of one that does."""
    return isinstance(error, NothingHereError) or getattr(error, "missing", False)


def text_of(error: BaseException) -> str:
    """Return what to show of an error: our own say all, a bug shows where it is."""
    if isinstance(error, KindInfraError):
        return str(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"the disk is full: {error}\nTo fix: free some space there, and run again"
    return "".join(traceback.format_exception(error))

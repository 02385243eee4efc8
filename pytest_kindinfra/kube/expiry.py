"""Namespaces that runs make in a shared cluster: whose they are, and until when they may stay."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kindinfra.model import KubeObject


OWNER_LABEL = "dev.kindinfra/owner"


EXPIRES = "dev.kindinfra/expires"
"""The annotation; a time as in `metadata.creationTimestamp`, which labels cannot have."""


_GRACE = 300.0
"""Seconds by which the clocks of two machines may differ."""


_LONGEST_LABEL = 63


@dataclass(frozen=True, slots=True)
class NamespaceMarks:
    """What is written on a namespace that a run makes, in addition to the run's label.

    Attributes:
        owner: Who runs it, as a label's value.
        expires: Seconds since the epoch, after which other runs may delete it.
    """

    owner: str
    expires: float

    @property
    def labels(self) -> dict[str, str]:
        """The labels."""
        return {OWNER_LABEL: self.owner}

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations."""
        at = datetime.fromtimestamp(int(self.expires), UTC)
        return {EXPIRES: at.strftime("%Y-%m-%dT%H:%M:%SZ")}


def user_here() -> str:
    """Return who runs this process, as a label's value."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = ""
    word = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:_LONGEST_LABEL]
    return word.strip("-_.") or "unknown"


def has_expired(namespace: KubeObject, at: float) -> bool:
    """Whether a namespace may be deleted, also by those whose clock is a few minutes off.

    Args:
        namespace: As it is in the cluster.
        at: The time now, in seconds since the epoch.
    """
    return not _is_ending(namespace) and _expires(namespace) + _GRACE < at


def _expires(namespace: KubeObject) -> float:
    """Return when it expires, in seconds since the epoch; never if it does not say."""
    written = (namespace["metadata"].get("annotations") or {}).get(EXPIRES, "")
    try:
        return datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("inf")


def _is_ending(namespace: KubeObject) -> bool:
    return (namespace.get("status") or {}).get("phase") == "Terminating"

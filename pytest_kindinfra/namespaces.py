"""A namespace for one test: its name, and its making."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

from pytest_kindinfra.timeline import Deadline

if TYPE_CHECKING:
    from pytest_kindinfra.kube import Kube
    from pytest_kindinfra.view import Stack

LABELS = {"dev.kindinfra/test": "true"}
RUN_LABEL = "dev.kindinfra/run"
"""By it the namespace is found again in a cluster that stays, if its test cannot delete it."""

_LONGEST = 63
_RANDOM_BYTES = 4
_SECONDS = 30.0


def fresh_name(test: str) -> str:
    """Return a namespace's name that begins like the test's and that no other test gets."""
    tail = f"-{secrets.token_hex(_RANDOM_BYTES)}"
    words = re.sub(r"[^a-z0-9]+", "-", test.lower()).strip("-")
    return f"{words[: _LONGEST - len(tail)].strip('-') or 'test'}{tail}"


def make_namespace(stack: Stack, name: str) -> Kube:
    """Make the namespace, wait for its default service account, and return the API used.

    Raises:
        ClusterError: It did not come to be within half a minute.
    """
    labels = {**LABELS, RUN_LABEL: stack.run_id}
    stack.api.ensure_namespace(name, Deadline.after(_SECONDS), labels)
    return stack.api

"""How objects are rendered that are not plain manifests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kindinfra.system.runner import Runner
    from pytest_kindinfra.system.timeline import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Templating:
    """How charts and kustomizations are rendered.

    Attributes:
        runner: Runs helm.
        namespace: Of releases that name none.
        kubernetes: The version that charts are told; None leaves it to helm.
        deadline: When to stop.
    """

    runner: Runner
    namespace: str
    kubernetes: str | None
    deadline: Deadline


def kubernetes_version(node_image: str | None) -> str | None:
    """Return `1.34.4` for `kindest/node:v1.34.4@sha256:...`, None if the tag does not say."""
    tag = (node_image or "").partition("@")[0].rpartition(":")[2]
    found = re.fullmatch(r"v(\d+\.\d+\.\d+)(-.*)?", tag)
    return found[1] if found else None

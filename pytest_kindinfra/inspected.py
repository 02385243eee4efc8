"""What an engine's program prints of what was inspected: a line for each, or one list of all.

`docker inspect --format '{{json .}}'` prints a line of JSON for each object; podman prints one
array, whether a format is given or not (tried with podman 4.3). Pure.
"""

from __future__ import annotations

import json
from typing import Any


def inspected(printed: str) -> list[dict[str, Any]]:
    """Return the objects, in the order in which they were printed."""
    if printed.lstrip().startswith("["):
        found: list[dict[str, Any]] = json.loads(printed)
        return found
    return [json.loads(line) for line in printed.splitlines() if line.strip()]

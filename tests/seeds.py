"""Which seeds tests that try chance are run with."""

from __future__ import annotations

import os


def seeds(usual: int) -> range:
    """Return the first `usual` seeds, or those of `KINDINFRA_STRESS`: `100` of them, or `17-19`."""
    text = os.environ.get("KINDINFRA_STRESS", "")
    first, dash, last = text.partition("-")
    if dash:
        return range(int(first), int(last) + 1)
    return range(int(text or usual))

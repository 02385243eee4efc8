"""What a benchmark prints of its measurements: medians, quartiles, and ratios with an interval."""

from __future__ import annotations

import random
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_RESAMPLES = 2000


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return (values[0],) * 3
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of the medians, and the 90 % interval of a paired bootstrap.

    Args:
        ours: Seconds of each round.
        theirs: Seconds of the same rounds, so that noise that both saw cancels out.
    """
    pairs = list(zip(ours, theirs, strict=True))
    chance = random.Random(0)  # noqa: S311 - the same figures give the same interval
    drawn = sorted(_ratio(chance.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    return _ratio(pairs), drawn[_RESAMPLES // 20], drawn[-_RESAMPLES // 20]


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)

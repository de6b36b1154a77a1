"""Order statistics, and how sure one can be of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the values lie; ValueError if there is none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 2000, seed: int = 1
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the median.

    The same values give the same interval: the resampling is seeded. ValueError if there are no values.
    """
    if not values:
        raise ValueError("no values")
    source = random.Random(seed)
    medians = sorted(median(source.choices(values, k=len(values))) for _ in range(resamples))
    tail = (1 - confidence) / 2
    return percentile(medians, tail), percentile(medians, 1 - tail)

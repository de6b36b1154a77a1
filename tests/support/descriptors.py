"""Open descriptors of this process, counted while threads of earlier tests open and close theirs."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

FOLDER = "/proc/self/fd"


def descriptors() -> int:
    """Return the number of open descriptors that are held."""
    gc.collect()
    return len(os.listdir(FOLDER))


def leaks_descriptors(work: Callable[[], object], times: int = 20) -> bool:
    """Repeat the work; True if one descriptor or more of each time stays open.

    A thread of an earlier test may open or close a few meanwhile, so the numbers are never demanded equal.
    """
    before = descriptors()
    for _ in range(times):
        work()
    return descriptors() - before >= times

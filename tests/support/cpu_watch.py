"""Watch over the CPU time of the tests of ``make test``, in units of a loop of one second.

CPU time, since the wall clock shows what else a machine does; a loop, since machines differ. The loop runs
only after a test that took long, at the same load.
"""

from __future__ import annotations

import os
import time
from types import ModuleType

from tests.support.cases import CASES

TOLD, FAILS = 3.0, 5.0
# At so many cases the limits hold for generated tests too.
AT_HOME = 2_000


def failing() -> bool:
    """Return True where a test over the limit fails, as in CI; elsewhere it is told of."""
    return "SESSAUTH_TEST_CPU" in os.environ


def limited(seconds: float, module: ModuleType | None) -> float:
    """Return what a test took; one whose rounds SESSAUTH_CASES says is taken to have so many as at home."""
    generated = hasattr(module, "CASES") or hasattr(module, "examples")
    return seconds * min(1.0, AT_HOME / CASES) if generated else seconds


def loop_seconds() -> float:
    """Return the CPU seconds of the loop: one where the limits were chosen."""
    begin = time.process_time()
    total = 0
    for number in range(3_700_000):
        total ^= hash((number, str(number)))
    return time.process_time() - begin


def units(seconds: float) -> float:
    """Return a time in loops; one below the first limit is not measured, and is 0."""
    return 0.0 if seconds <= TOLD else seconds / max(1.0, loop_seconds())

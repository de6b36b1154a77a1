"""Decisions of a check in this process: the kernel's own class, given words and a surface."""

from __future__ import annotations

from typing import Any

from .._fast.check import decision as _kernel
from .._fast.check.decision import Decision, speak
from ..reasons import Reason, Stage
from .decision_base import DecisionBase

__all__ = ["Decision", "DecisionBase"]


def restore(facts: tuple[Any, ...], fault: Exception | None = None) -> Decision:
    """Return the decision of a pickle, which names this function; ``fault`` is what INTERNAL_ERROR came of.

    A pickle is as good as whoever wrote it: read none that others could have changed.

    Raises:
        ValueError: for facts that no decision has, above all for a denial that calls itself allowed; so do
            TypeError and OverflowError.
    """
    return _kernel.restore(facts, fault)


# Calling an enum costs several times a lookup, and gateways ask for every call.
speak(
    {int(reason): reason for reason in Reason},
    {int(stage): stage for stage in Stage},
    DecisionBase,
    restore,
)
DecisionBase.register(Decision)

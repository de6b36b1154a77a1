"""Decisions of a check in this process: the kernel's own class, given words and a surface."""

from __future__ import annotations

from ._fast.decision import Decision, speak
from .decision_base import DecisionBase
from .reasons import Reason, Stage

__all__ = ["Decision", "DecisionBase"]

# Calling an enum costs several times a lookup, and gateways ask for every call.
speak(
    {int(reason): reason for reason in Reason},
    {int(stage): stage for stage in Stage},
    DecisionBase,
)
DecisionBase.register(Decision)

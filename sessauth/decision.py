"""Decisions of a check in this process."""

from __future__ import annotations

from ._fast.outcome import Outcome
from .decision_base import DecisionBase
from .reasons import Reason, Stage

_reason = Outcome.reason
_stage = Outcome.stage
# Calling an enum costs several times a lookup, and gateways ask for every call.
_REASONS = {int(reason): reason for reason in Reason}
_STAGES = {int(stage): stage for stage in Stage}

__all__ = ["Decision", "DecisionBase"]


class Decision(Outcome, DecisionBase):
    """The kernel's outcome, with its numbers as enums.

    The raw numbers stay reachable: ``Outcome.reason.__get__(decision)``.
    """

    __slots__ = ()

    @property
    def reason(self) -> Reason:
        """Why the check ended as it did."""
        return _REASONS[_reason.__get__(self)]

    @property
    def stage(self) -> Stage:
        """The stage that refused; ``NONE`` if none did."""
        return _STAGES[_stage.__get__(self)]

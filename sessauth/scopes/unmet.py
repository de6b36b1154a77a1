"""Needs that no call of a scope can ever meet."""

from __future__ import annotations

from . import containment
from .condition import Condition
from .operators import Operator
from .scope import Scope
from .segment import Segment
from .value import Number


def unmet_need(scope: Scope) -> str:
    """Return why no call can meet the needs of ``scope``; empty if that is not proven.

    A budget takes a number of 0 or more. No call has one at its path where a condition asks for something
    else there, such as a list, or where the scope does not mention the argument and so denies it.
    """
    budget = scope.needs.budget if scope.needs else None
    if budget is None:
        return ""
    number = Condition(budget.amount, Operator.GREATER_EQUAL, (Number(),))
    payable = Scope(("*",), (Segment.rest(),), (number,), everything_free=True)
    if containment.overlaps(scope.to_record(), payable.to_record()):
        return ""
    return f"no call can pay its budget: argument `{budget.amount.argument}` is never a number of 0 or more"

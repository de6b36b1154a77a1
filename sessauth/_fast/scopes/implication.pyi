from collections.abc import Mapping
from typing import Any

from sessauth._fast.scopes.constants import WorkBudget as WorkBudget
from sessauth._fast.scopes.constants import WorkExceeded as WorkExceeded

__all__ = ["WorkBudget", "WorkExceeded", "argument", "contradicts", "implies", "is_known", "requires_value"]

def argument(condition: Mapping[str, Any]) -> str: ...
def contradicts(
    child: Mapping[str, Any], parent: Mapping[str, Any], same_facts: bool, work: WorkBudget
) -> bool: ...
def requires_value(condition: Mapping[str, Any]) -> bool: ...
def implies(
    child: Mapping[str, Any], parent: Mapping[str, Any], same_facts: bool, work: WorkBudget
) -> bool: ...
def is_known(condition: Mapping[str, Any]) -> bool: ...

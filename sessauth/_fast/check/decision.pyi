from collections.abc import Callable
from typing import Any, Self, final

from sessauth.decisions.decision import DecisionBase
from sessauth.reasons import Reason, Stage

class Decision(DecisionBase):
    @property
    def checked_at_ms(self) -> int: ...
    @property
    def fault(self) -> Exception | None: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: dict[int, Any], /) -> Self: ...

@final
class StoredDecision(Decision): ...

def restore(facts: tuple[Any, ...], fault: Exception | None = None) -> StoredDecision: ...
def bind_enums(
    reasons: dict[int, Reason],
    stages: dict[int, Stage],
    decision_base: type[DecisionBase],
    restore: Callable[..., Decision],
) -> None: ...

from sessauth.decision_base import DecisionBase
from sessauth.reasons import Reason, Stage

class Decision(DecisionBase):
    @property
    def checked_at_ms(self) -> int: ...
    @property
    def fault(self) -> Exception | None: ...

def speak(reasons: dict[int, Reason], stages: dict[int, Stage], surface: type[DecisionBase]) -> None: ...

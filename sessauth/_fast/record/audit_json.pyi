from collections.abc import Mapping, Sequence
from typing import Self, final

from sessauth._fast.record.decision_record import DecisionRecord

@final
class DecisionText:
    def __new__(
        cls,
        arguments_key: bytes,
        reasons: Mapping[int, str],
        stages: Mapping[int, str],
        *,
        sample_allows: float = 1.0,
    ) -> Self: ...
    @property
    def sample_allows(self) -> float: ...
    def forget_chains(self) -> None: ...
    def write(self, records: Sequence[DecisionRecord]) -> tuple[bytes, int]: ...

from collections.abc import Callable
from typing import final

from sessauth._fast.check.checker import Checker
from sessauth._fast.check.decision import Decision
from sessauth._fast.record.counters import Histograms

@final
class DirectMethod:
    def __new__(
        cls,
        kind: str,
        checker: Checker,
        explain: Callable[[Decision, bytes | None], str],
        times: Histograms | None = None,
        row: int = 0,
    ) -> DirectMethod: ...
    @property
    def answered(self) -> int: ...

class DirectCaller:
    def __new__(cls, method: DirectMethod, audiences: tuple[str, ...], gate: object) -> DirectCaller: ...
    def answer_bytes(self, data: bytes) -> bytes | None: ...

from typing import Any, final

from sessauth._fast.call.argument_forms import _Arguments
from sessauth._fast.check.batch import Batch
from sessauth._fast.check.decision import Decision
from sessauth._fast.record.counters import CheckCounters
from sessauth._fast.record.queue import DecisionQueue

@final
class Prepared:
    @property
    def data(self) -> bytes: ...

class RecordingRunner:
    decision_queue: DecisionQueue | None
    counters: CheckCounters | None
    @property
    def audience(self) -> str: ...
    def record_decision(
        self,
        decision: Decision,
        token: Any,
        action: bytes | str,
        resource: bytes | str,
        arguments: _Arguments = b"",
        *,
        source: str = "",
        audience: str | None = None,
        now_ms: int = -1,
        token_only: bool = False,
    ) -> None: ...
    def prepare(self, token: Any) -> Prepared: ...
    def record_batch_item(self, batch: Batch, i: int, *, watched: bool = False) -> None: ...

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
    tap: DecisionQueue | None
    tally: CheckCounters | None
    @property
    def audience(self) -> str: ...
    def note(
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
    ) -> None: ...
    def note_batch_item(self, batch: Batch, i: int, *, watched: bool = False) -> None: ...

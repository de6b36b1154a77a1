from collections.abc import Iterable, Sequence
from typing import Any, Self, final

from sessauth._fast.check.checker import Checker
from sessauth._fast.rpc_codec.check_messages import _Gate

@final
class Survey:
    def __new__(
        cls,
        checker: Checker,
        token: Any,
        *,
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str | None = None,
        at_least_revision: int = 0,
        now_ms: int = -1,
        clock_suspect: bool = False,
        verify_new_signatures: bool = True,
        gate: _Gate | None = None,
    ) -> Self: ...
    @property
    def reason(self) -> int: ...
    @property
    def stage(self) -> int: ...
    @property
    def revision(self) -> int: ...
    @property
    def fault(self) -> Exception | None: ...
    def verdicts(self, candidates: Iterable[tuple[Any, ...]]) -> list[int]: ...

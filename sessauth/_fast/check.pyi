from collections.abc import Sequence
from typing import Any

from sessauth._fast.cache import Cache
from sessauth._fast.outcome import Outcome as Outcome
from sessauth._fast.view import View

class Checker:
    def __init__(
        self,
        view: View,
        *,
        cache_bytes: int = 67108864,
        session_cache_bytes: int = 0,
        outcome_type: type[Outcome] = ...,
    ) -> None: ...
    @property
    def view(self) -> View: ...
    @property
    def cache(self) -> Cache: ...
    @property
    def bad_signatures(self) -> int: ...
    @property
    def signatures(self) -> int: ...
    def check(
        self,
        token: bytes,
        action: bytes | str,
        resource: bytes | str,
        arguments: bytes = b"",
        *,
        tool: bytes = b"",
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str = "",
        at_least_revision: int = 0,
        now_ms: int = -1,
        clock_suspect: bool = False,
        new_signatures: bool = True,
    ) -> Any: ...
    def refuse(self, stage: int, reason: int) -> Any: ...

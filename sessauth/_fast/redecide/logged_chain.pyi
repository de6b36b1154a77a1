from collections.abc import Sequence
from typing import Self, final

__all__ = ["LoggedChain"]

@final
class LoggedChain:
    def __new__(cls, payloads: Sequence[bytes], block_ids: Sequence[bytes]) -> Self: ...
    @property
    def root_id_matches(self) -> bool: ...
    @property
    def session_id(self) -> bytes: ...
    @property
    def bound(self) -> bool: ...

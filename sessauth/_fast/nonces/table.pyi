import os
from typing import final

from sessauth._fast.nonces.table_file import TableError as TableError

__all__ = ["ReplayTable", "TableError"]

@final
class ReplayTable:
    @staticmethod
    def create(
        path: str | os.PathLike[str], slots: int, now_ms: int, *, proofs_before: bool = False
    ) -> ReplayTable: ...
    @staticmethod
    def open(path: str | os.PathLike[str]) -> ReplayTable: ...
    def insert(
        self, last_signature: bytes, nonce: bytes, next_key: bytes, time_ms: int, now_ms: int
    ) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def slots(self) -> int: ...
    @property
    def made_at_ms(self) -> int: ...
    @property
    def latest_ms(self) -> int: ...
    @property
    def intact(self) -> bool: ...

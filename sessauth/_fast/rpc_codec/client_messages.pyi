from collections.abc import Mapping
from enum import IntEnum
from typing import Any, final

def check_request(item: Any, token: bytes, audience: Any, at_least_revision: Any) -> bytes | None: ...

@final
class DecisionReader:
    def __init__(
        self,
        kind: type,
        reasons: Mapping[int, IntEnum],
        stages: Mapping[int, IntEnum],
        levels: Mapping[int, IntEnum],
    ) -> None: ...
    def check(self, data: bytes) -> Any: ...
    def batch(self, data: bytes) -> list[Any] | None: ...

"""Late uses that hosts reported to the leader, for the hosts that don't have them yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from ...client._usage_messages import late_message
from ...v1 import usage_service_pb2 as pb
from .host_report import MAX_LATE, LateUse

# A host that asks later than this many misses the first of them.
MAX_WAITING: Final = 4_096


class LateUses:
    """The last late uses, numbered from 1. Any thread may use it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._waiting: deque[LateUse] = deque(maxlen=MAX_WAITING)
        self._number = 0

    @property
    def number(self) -> int:
        """The number of the last one."""
        return self._number

    def add(self, uses: Iterable[LateUse]) -> None:
        """Add uses."""
        with self._lock:
            for use in uses:
                self._number += 1
                self._waiting.append(use)

    def behind(self, number: int, host: str) -> tuple[list[pb.LateUse], int]:
        """Return the uses after a number that are not of ``host``, and the number that they reach."""
        with self._lock:
            first = self._number - len(self._waiting)
            begin = max(number, first)
            found = list(islice(self._waiting, begin - first, begin - first + MAX_LATE))
        messages = [
            pb.LateUse(
                session_id=late.session_id,
                host=late.host,
                verifier=late.verifier,
                use=late_message(late.use),
            )
            for late in found
            if late.host != host
        ]
        return messages, begin + len(found)

"""Records of a leader for tests of carriers: a log that is written through any carrier."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sessauth.state.replication.carrier import Appended, AppendStatus, Carrier, Leader, LogHead

APPENDED: Final = AppendStatus.APPENDED
FENCED: Final = AppendStatus.FENCED
REFUSED: Final = AppendStatus.REFUSED
UNKNOWN: Final = AppendStatus.UNKNOWN
START: Final = LogHead(0, b"")
GIVE_UP_MS: Final = 5_000


def digest(record: bytes) -> bytes:
    """Return the digest of a record."""
    return hashlib.sha256(record).digest()


def behind(head: LogHead, record: bytes) -> LogHead:
    """Return the head once ``record`` is appended."""
    return LogHead(head.number + 1, digest(record))


def new_leader(carrier: Carrier, name: str = "one", ttl_ms: int = 60_000) -> Leader:
    """Make a server the leader."""
    leader = carrier.lead(name, f"{name}:1", ttl_ms)
    assert leader is not None
    return leader


@dataclass
class LogWriter:
    """A leader that appends."""

    carrier: Carrier
    leader: Leader
    head: LogHead = field(default=START)

    def attempt(self, record: bytes, give_up_ms: int = GIVE_UP_MS) -> Appended:
        """Append a record; the head moves if it was appended."""
        answer = self.carrier.append(self.leader.term, self.head, record, digest(record), give_up_ms)
        if answer.status is APPENDED:
            self.head = behind(self.head, record)
        return answer

    def append(self, *records: bytes) -> None:
        """Append records that must be taken."""
        for record in records:
            answer = self.attempt(record)
            assert answer.status is APPENDED, answer


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)

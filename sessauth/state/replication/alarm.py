"""The alarm of a host that refused its cluster's log, as its folder stores it.

It survives restarts: a log that was restored and then grew again could look right to a restarted process. An
operator ends it, by a command on this host, or by having the log go on elsewhere (``adopt``): a signed record
that follows this host's position, and comes after everything that raised its alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...errors import RecordRefused

# A restart meets the same record before it can prove anything; an upgrade or a snapshot is the cure.
_PASSING: Final = frozenset({"NEWER_FORMAT", "COMPACTED", "OLD", "NOT_IN_CLUSTER"})
_NEVER: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class StoredAlarm:
    """A fault and its message. ``beyond`` is the highest record of the log that it was raised by."""

    fault: str
    beyond: int
    message: str

    @classmethod
    def of(cls, refused: RecordRefused, beyond: int) -> StoredAlarm | None:
        """Return the stored text of an alarm; None: a restart ends it."""
        return None if refused.fault in _PASSING else cls(refused.fault, beyond, str(refused))

    @classmethod
    def decode(cls, text: str) -> StoredAlarm | None:
        """Read a text of the brake page; None if it is empty. Only a command ends an unreadable one."""
        if not text:
            return None
        fault, _, rest = text.partition(" ")
        number, _, message = rest.partition(" ")
        if not number.isdecimal():
            return cls("UNREADABLE", _NEVER, "the stored alarm can't be read")
        return cls(fault, int(number), message)

    def encode(self) -> str:
        """Return the text for the brake page."""
        return f"{self.fault} {self.beyond} {self.message}"

    def refused(self) -> RecordRefused:
        """Return the alarm."""
        return RecordRefused(self.message, self.fault)

"""What is known of one session in the control process, and how it becomes a report and a file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from google.protobuf.message import DecodeError

from ...client._usage_messages import read_session, session_message
from ...errors import UsageError
from ...model.session import ScopeRecord, Session
from ...usage.observations import SESSION_BYTES, SessionObservation
from ...v1 import usage_service_pb2 as pb
from ..log import event
from .messages import report_message

# Of one session; what others tell is added up, not told apart.
MAX_VERIFIERS: Final = 64

Layers: TypeAlias = Sequence[Sequence[ScopeRecord]]


@dataclass(slots=True)
class VerifierCount:
    """What one verifier told of a session."""

    allowed: int = 0
    denied: int = 0
    reported_at_ms: int = 0


@dataclass(slots=True)
class SessionUsageEntry:
    """What is known of one session. ``final`` is the report of one that ended, as it was written last."""

    seen: SessionObservation
    verifiers: dict[str, VerifierCount] = field(default_factory=dict)
    final: pb.SessionReport | None = None
    bytes: int = SESSION_BYTES
    # Moves with all that is added; ``written`` is where it stood at the last writing.
    version: int = 0
    written: int = 0
    touched_ms: int = 0
    ended_at_ms: int = 0

    @property
    def is_written(self) -> bool:
        """Whether a file holds all of it."""
        return self.written == self.version

    def add(self, seen: SessionObservation, verifier: str, room: int, now_ms: int) -> int:
        """Add what ``verifier`` tells, in at most ``room`` more bytes; returns how many it took."""
        allowed, denied = seen.allowed, seen.denied
        took = self.seen.add(seen, max(0, room))
        self.bytes += took
        self.version += 1
        self.touched_ms = now_ms
        if verifier in self.verifiers or len(self.verifiers) < MAX_VERIFIERS:
            count = self.verifiers.setdefault(verifier, VerifierCount())
            count.allowed += allowed
            count.denied += denied
            count.reported_at_ms = now_ms
        return took

    def report(
        self, session: Session | None, layers: Layers, missing: Iterable[pb.Missing]
    ) -> pb.SessionReport | None:
        """Return it as a report.

        Args:
            session: as the state holds it; None once it was purged: then what was written last says it.
            layers: of its ancestors' ceilings.
            missing: what this process says is missing; of one that was written after its end, the file does.
        """
        if session is not None:
            report = report_message(session, layers)
        elif self.final is not None:
            report = pb.SessionReport()
            report.CopyFrom(self.final)
        else:
            return None
        reasons = set(missing if self.final is None else self.final.missing)
        if self.seen.lost:
            reasons.add(pb.MISSING_LOST)
        report.missing[:] = sorted(reasons)
        report.seen.CopyFrom(session_message(self.seen))
        report.ClearField("verifiers")
        for name, count in sorted(self.verifiers.items()):
            report.verifiers.add(
                name=name, allowed=count.allowed, denied=count.denied, reported_at_ms=count.reported_at_ms
            )
        return report


def read_kept(data: bytes, now_ms: int) -> SessionUsageEntry | None:
    """Read the file of a session; None if it can't be read."""
    if not data:
        return None
    try:
        report = pb.SessionReport.FromString(data)
        seen = read_session(report.seen)
    except (DecodeError, UsageError) as error:
        event(logging.ERROR, "usage_file_unreadable", error=str(error))
        return None
    verifiers = {
        each.name: VerifierCount(each.allowed, each.denied, each.reported_at_ms) for each in report.verifiers
    }
    final = report if report.session.ended_at_ms else None
    return SessionUsageEntry(
        seen, verifiers, final, seen.size(), touched_ms=now_ms, ended_at_ms=report.session.ended_at_ms
    )

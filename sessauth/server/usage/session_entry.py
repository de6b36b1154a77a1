"""The control process's usage record of one session, with its report and census."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError

from ... import limits
from ..._fast import _check as kernel
from ...client._usage_messages import read_session, session_message
from ...errors import UsageError
from ...model.session import ScopeRecord, Session
from ...usage.observations import SESSION_BYTES, SessionObservation
from ...v1 import record_pb2
from ...v1 import usage_service_pb2 as pb
from .. import request_fields
from ..log import event

# Verifiers with a count of their own, for one session. The reports of others only go into the sum.
MAX_VERIFIERS: Final = 64

Layers: TypeAlias = Sequence[Sequence[ScopeRecord]]


@dataclass(slots=True)
class VerifierCount:
    """One verifier's share of a session's calls; the time of its last report in ms since 1970."""

    allowed: int = 0
    denied: int = 0
    reported_at_ms: int = 0


@dataclass(slots=True)
class SessionUsageEntry:
    """Usage of one session. ``final`` is the report of an ended one, as it was last written."""

    observation: SessionObservation
    verifiers: dict[str, VerifierCount] = field(default_factory=dict)
    final: pb.SessionReport | None = None
    bytes: int = SESSION_BYTES
    # Counts additions; ``written`` is its value at the last write.
    version: int = 0
    written: int = 0
    touched_ms: int = 0
    ended_at_ms: int = 0

    @property
    def is_written(self) -> bool:
        """True if a file holds all of it."""
        return self.written == self.version

    def add(self, observation: SessionObservation, verifier: str, room: int, now_ms: int) -> int:
        """Add an observation of ``verifier``, in at most ``room`` more bytes; returns the bytes taken."""
        allowed, denied = observation.allowed, observation.denied
        grown = self.observation.add(observation, max(0, room))
        self.bytes += grown
        self.version += 1
        self.touched_ms = now_ms
        if verifier in self.verifiers or len(self.verifiers) < MAX_VERIFIERS:
            count = self.verifiers.setdefault(verifier, VerifierCount())
            count.allowed += allowed
            count.denied += denied
            count.reported_at_ms = now_ms
        return grown

    def report(
        self, session: Session | None, layers: Layers, missing: Iterable[pb.Missing]
    ) -> pb.SessionReport | None:
        """Return it as a report.

        Args:
            session: its stored record. None once it was purged: then the last written report has it.
            layers: of its ancestors' ceilings.
            missing: this process's reasons; a report that was written after the end keeps its own.
        """
        if session is not None:
            report = report_message(session, layers)
        elif self.final is not None:
            report = pb.SessionReport()
            report.CopyFrom(self.final)
        else:
            return None
        reasons = set(missing if self.final is None else self.final.missing)
        if self.observation.lost:
            reasons.add(pb.MISSING_LOST)
        report.missing[:] = sorted(reasons)
        report.observation.CopyFrom(session_message(self.observation))
        report.ClearField("verifiers")
        report.verifiers.extend(self._activities())
        return report

    def host_session(self) -> pb.HostSession:
        """Return it as this host's sum of the session."""
        return pb.HostSession(observation=session_message(self.observation), verifiers=self._activities())

    def _activities(self) -> list[pb.VerifierActivity]:
        return [
            pb.VerifierActivity(
                name=name, allowed=count.allowed, denied=count.denied, reported_at_ms=count.reported_at_ms
            )
            for name, count in sorted(self.verifiers.items())
        ]


def read_entry(data: bytes, now_ms: int) -> SessionUsageEntry | None:
    """Read the file of a session; None if it is empty or unreadable."""
    if not data:
        return None
    try:
        report = pb.SessionReport.FromString(data)
        observation = read_session(report.observation)
    except (DecodeError, UsageError) as error:
        event(logging.ERROR, "usage_file_unreadable", error=str(error))
        return None
    verifiers = {
        count.name: VerifierCount(count.allowed, count.denied, count.reported_at_ms)
        for count in report.verifiers
    }
    ended_at_ms = report.session.ended_at_ms
    return SessionUsageEntry(
        observation,
        verifiers,
        report if ended_at_ms else None,
        observation.size(),
        touched_ms=now_ms,
        ended_at_ms=ended_at_ms,
    )


def report_message(session: Session, inherited: Iterable[Iterable[ScopeRecord]]) -> pb.SessionReport:
    """Return a report of a session's authority: its record and its ``inherited`` ceiling layers."""
    report = pb.SessionReport(
        inherited=[
            record_pb2.Ceiling.FromString(kernel.encode_message("Ceiling", {"scopes": list(layer)}))
            for layer in inherited
        ],
    )
    set_session(report, session)
    return report


def set_session(report: pb.SessionReport, session: Session) -> None:
    """Put a session's record into a report, with tokens masked: the report outlives the session."""
    report.session.CopyFrom(request_fields.session_message(session))
    request_fields.mask_texts(report.session)


def census_message(report: pb.SessionReport, is_revoked: Callable[[bytes], bool]) -> pb.GetCensusResponse:
    """Return the blocks of a report, parents first. A block below a revoked one counts as revoked."""
    observation = report.observation
    blocks = sorted(observation.blocks, key=lambda block: (block.index, block.first_ms, block.block_id))
    parents = {block.block_id: block.parent_id for block in blocks}
    revoked = {block_id: is_revoked(block_id) for block_id in parents}
    return pb.GetCensusResponse(
        blocks=[
            pb.BlockCensus(observation=block, revoked=_is_dead(block.block_id, parents, revoked))
            for block in blocks
        ],
        late=observation.late,
        missing=report.missing,
    )


def _is_dead(block_id: bytes, parents: Mapping[bytes, bytes], revoked: Mapping[bytes, Any]) -> bool:
    # Bounded: a faulty verifier may have reported a circle of parents.
    for _ in range(limits.MAX_BLOCKS):
        if revoked.get(block_id):
            return True
        block_id = parents.get(block_id, b"")
    return False

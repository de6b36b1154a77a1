"""Messages of a session's report and census."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ... import limits
from ..._fast.codec import protobuf
from ...model.session import ScopeRecord, Session
from ...v1 import record_pb2
from ...v1 import usage_service_pb2 as pb
from .. import request_fields
from ..request_fields import mask_texts


def report_message(session: Session, inherited: Iterable[Iterable[ScopeRecord]]) -> pb.SessionReport:
    """Return a report of a session's authority: its record and its ``inherited`` ceiling layers."""
    granted = request_fields.session_message(session)
    # The report outlives the session.
    mask_texts(granted)
    return pb.SessionReport(
        session=granted,
        inherited=[
            record_pb2.Ceiling.FromString(protobuf.encode("Ceiling", {"scopes": list(layer)}))
            for layer in inherited
        ],
    )


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

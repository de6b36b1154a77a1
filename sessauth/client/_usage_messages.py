"""Conversion between observations of sessions and their messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from .. import limits
from .._fast import _check as kernel
from ..errors import UsageError
from ..usage.session_usage import (
    USAGE_FACTOR,
    BlockObservation,
    ObservationBatch,
    SessionObservation,
    SessionUsage,
    UseAfterEnd,
)
from ..v1 import usage_service_pb2 as pb

MAX_BATCH_SESSIONS: Final = 1_024
MAX_NAME_BYTES: Final = 64
MAX_USAGE_BYTES: Final = 4 << 20
MAX_COUNT: Final = (1 << 53) - 1
_SESSION_ID_BYTES: Final = 16
_BLOCK_ID_BYTES: Final = 32


def batch_message(batch: ObservationBatch) -> pb.ReportObservationsRequest:
    """Return the message of a batch."""
    return pb.ReportObservationsRequest(
        sender_id=batch.sender_id,
        number=batch.number,
        verifier=batch.verifier,
        lost=batch.lost,
        sessions=map(session_message, batch.sessions),
    )


def session_message(observation: SessionObservation) -> pb.SessionObservation:
    """Return the message of one session's observation."""
    return pb.SessionObservation(
        session_id=observation.session_id,
        allowed=observation.allowed,
        denied=observation.denied,
        observed=observation.observed,
        last_allow_ms=observation.last_allow_ms,
        lost=observation.lost,
        blocks=(pb.BlockObservation(**_values(block)) for block in observation.blocks.values()),
        late=map(late_message, observation.late.values()),
        usage=b"" if observation.usage is None else observation.usage.to_json(),
    )


def late_message(late: UseAfterEnd) -> pb.UseAfterEnd:
    """Return the message of uses after the end."""
    return pb.UseAfterEnd(**_values(late))


def _values(entry: BlockObservation | UseAfterEnd) -> dict[str, Any]:
    # The fields of both are those of their messages.
    return {name: getattr(entry, name) for name in entry.__slots__}


def read_batch(
    request: pb.ReportObservationsRequest, verifier: str, latest_ms: int = limits.MAX_TIME_MS
) -> ObservationBatch:
    """Read the report of ``verifier``; times beyond ``latest_ms`` become that: its clock may be wrong.

    Raises UsageError that names the field at fault.
    """
    _size("sender_id", request.sender_id, _SESSION_ID_BYTES)
    if request.number < 1:
        raise UsageError("number: begins at 1")
    if len(request.sessions) > MAX_BATCH_SESSIONS:
        raise UsageError(f"sessions: at most {MAX_BATCH_SESSIONS}, not {len(request.sessions)}")
    if not 1 <= len(verifier.encode()) <= MAX_NAME_BYTES:
        raise UsageError(f"verifier: is 1 to {MAX_NAME_BYTES} bytes")
    reader = _Reader(latest_ms)
    sessions = tuple(
        reader.session(f"sessions[{index}]", message) for index, message in enumerate(request.sessions)
    )
    if len({session.session_id for session in sessions}) != len(sessions):
        raise UsageError("sessions: names a session twice")
    return ObservationBatch(
        request.sender_id, request.number, verifier, _count("lost", request.lost), sessions
    )


def read_session(
    message: pb.SessionObservation, where: str = "observation", latest_ms: int = limits.MAX_TIME_MS
) -> SessionObservation:
    """Read one session's observation; times beyond ``latest_ms`` become that.

    Raises UsageError that names the field at fault, after ``where``.
    """
    return _Reader(latest_ms).session(where, message)


def read_block(message: pb.BlockObservation) -> BlockObservation:
    """Read a block. Raises UsageError that names the field at fault."""
    return _Reader(limits.MAX_TIME_MS).block("observation", message)


def read_late(
    message: pb.UseAfterEnd, where: str = "late", latest_ms: int = limits.MAX_TIME_MS
) -> UseAfterEnd:
    """Read uses after the end; times beyond ``latest_ms`` become that.

    Raises UsageError that names the field at fault, after ``where``.
    """
    return _Reader(latest_ms).late(where, message)


def read_usage(where: str, data: bytes) -> SessionUsage | None:
    """Read a usage record; None for nothing. Raises UsageError that names ``where``."""
    if not data:
        return None
    if len(data) > MAX_USAGE_BYTES:
        raise UsageError(f"{where}: at most {MAX_USAGE_BYTES} bytes")
    try:
        return SessionUsage.from_json(data)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


class _Reader:
    """Reader of untrusted messages."""

    def __init__(self, latest_ms: int) -> None:
        self._latest_ms = latest_ms

    def session(self, where: str, message: pb.SessionObservation) -> SessionObservation:
        observation = SessionObservation(
            _size(f"{where}.session_id", message.session_id, _SESSION_ID_BYTES),
            allowed=_count(f"{where}.allowed", message.allowed),
            denied=_count(f"{where}.denied", message.denied),
            observed=_count(f"{where}.observed", message.observed),
            last_allow_ms=min(message.last_allow_ms, self._latest_ms),
            lost=_count(f"{where}.lost", message.lost),
        )
        if observation.observed > observation.allowed:
            raise UsageError(f"{where}.observed: is more than allowed")
        for index, block in enumerate(message.blocks):
            parsed = self.block(f"{where}.blocks[{index}]", block)
            observation.blocks[parsed.block_id] = parsed
        for index, each in enumerate(message.late):
            late = self.late(f"{where}.late[{index}]", each)
            observation.late[late.key] = late
        if len(observation.blocks) < len(message.blocks) or len(observation.late) < len(message.late):
            raise UsageError(f"{where}: says one thing twice")
        observation.usage = read_usage(f"{where}.usage", message.usage)
        observation.usage_bytes = USAGE_FACTOR * len(message.usage)
        return observation

    def block(self, where: str, message: pb.BlockObservation) -> BlockObservation:
        calls = _count(f"{where}.calls", message.calls, 1)
        if message.index >= limits.MAX_BLOCKS:
            raise UsageError(f"{where}.index: is 0 to {limits.MAX_BLOCKS - 1}")
        if message.allowed > calls:
            raise UsageError(f"{where}.allowed: is more than calls")
        _size(f"{where}.parent_id", message.parent_id, _BLOCK_ID_BYTES if message.index else 0)
        _require_block(f"{where}.payload", message.payload)
        return BlockObservation(
            _size(f"{where}.block_id", message.block_id, _BLOCK_ID_BYTES),
            message.parent_id,
            message.index,
            *self._span(where, message),
            calls,
            message.allowed,
            message.payload,
        )

    def late(self, where: str, message: pb.UseAfterEnd) -> UseAfterEnd:
        _ids(f"{where}.block_ids", message.block_ids)
        if message.claimed == bool(message.block_ids):
            raise UsageError(f"{where}.claimed: is for those without block_ids, and for no others")
        count = _count(f"{where}.count", message.count, 1)
        return UseAfterEnd(tuple(message.block_ids), message.claimed, count, *self._span(where, message))

    def _span(self, where: str, message: Any) -> tuple[int, int]:
        first_ms, last_ms = min(message.first_ms, self._latest_ms), min(message.last_ms, self._latest_ms)
        if first_ms > last_ms:
            raise UsageError(f"{where}.first_ms: is after last_ms")
        return first_ms, last_ms


def _size(where: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise UsageError(f"{where}: must be {size} bytes, not {len(value)}")
    return value


def _ids(where: str, values: Sequence[bytes]) -> Iterable[bytes]:
    if len(values) > limits.MAX_BLOCKS:
        raise UsageError(f"{where}: at most {limits.MAX_BLOCKS}")
    return [_size(where, value, _BLOCK_ID_BYTES) for value in values]


def _count(where: str, value: int, least: int = 0) -> int:
    if not least <= value <= MAX_COUNT:
        raise UsageError(f"{where}: is not between {least} and {MAX_COUNT}")
    return value


def _require_block(where: str, payload: bytes) -> None:
    if not payload:
        return
    try:
        if len(payload) > limits.MAX_TOKEN_BYTES:
            raise UsageError(f"{where}: at most {limits.MAX_TOKEN_BYTES} bytes")
        kernel.decode_message("Block", payload)
    except kernel.WireError as error:
        raise UsageError(f"{where}: is no block: {error}") from None

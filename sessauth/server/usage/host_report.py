"""One host's report to the leader of its cluster, as it came over the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ... import limits
from ...client._usage_messages import MAX_COUNT, MAX_NAME_BYTES, read_late, read_session, session_message
from ...errors import UsageError
from ...usage.observations import UseAfterEnd
from ...v1 import usage_service_pb2 as pb
from .session_entry import MAX_VERIFIERS

RUN_BYTES: Final = 16
SESSION_BYTES: Final = 16
MAX_SESSIONS: Final = 32
MAX_LATE: Final = 256


@dataclass(frozen=True, slots=True)
class LateUse:
    """Uses after the end of a session (16 bytes) that ``verifier`` reported to ``host``."""

    session_id: bytes
    host: str
    verifier: str
    use: UseAfterEnd


@dataclass(frozen=True, slots=True)
class HostUsageReport:
    """A report of ``host``, with its sums by session id and its late uses."""

    host: str
    message: pb.ReportHostUsageRequest
    sums: dict[bytes, pb.HostSession]
    late: tuple[LateUse, ...]


def read_report(request: pb.ReportHostUsageRequest, latest_ms: int, *, usage: bool) -> HostUsageReport:
    """Read a report; times beyond ``latest_ms`` become that. Without ``usage`` usage records are dropped.

    Raises UsageError that names the field at fault.
    """
    if len(request.run_id) != RUN_BYTES:
        raise UsageError(f"run_id: must be {RUN_BYTES} bytes, not {len(request.run_id)}")
    if request.number < 1:
        raise UsageError("number: begins at 1")
    if len(request.sessions) > MAX_SESSIONS:
        raise UsageError(f"sessions: at most {MAX_SESSIONS}, not {len(request.sessions)}")
    if not 1 <= request.first_late <= MAX_COUNT:
        raise UsageError(f"first_late: is not between 1 and {MAX_COUNT}")
    if len(request.late) > MAX_LATE:
        raise UsageError(f"late: at most {MAX_LATE}, not {len(request.late)}")
    for name in ("since_ms", "usage_since_ms", "lost_first_ms", "lost_last_ms", "run_began_ms"):
        if getattr(request, name) > limits.MAX_TIME_MS:
            raise UsageError(f"{name}: at most {limits.MAX_TIME_MS}")
    sums = [
        _read_sum(f"sessions[{index}]", message, latest_ms, usage=usage)
        for index, message in enumerate(request.sessions)
    ]
    by_id = {each.observation.session_id: each for each in sums}
    if len(by_id) != len(sums):
        raise UsageError("sessions: names a session twice")
    late = tuple(
        _read_late(f"late[{index}]", message, request.host, latest_ms)
        for index, message in enumerate(request.late)
    )
    return HostUsageReport(request.host, request, by_id, late)


def _read_sum(where: str, message: pb.HostSession, latest_ms: int, *, usage: bool) -> pb.HostSession:
    """Return a sum with only what was read and verified."""
    observation = read_session(message.observation, f"{where}.observation", latest_ms)
    # Read, so that it is known to be one; encoding it again would cost more than all the rest.
    observation.usage = None
    read = pb.HostSession(observation=session_message(observation))
    if usage:
        read.observation.usage = message.observation.usage
    if len(message.verifiers) > MAX_VERIFIERS:
        raise UsageError(f"{where}.verifiers: at most {MAX_VERIFIERS}")
    for index, each in enumerate(message.verifiers):
        _require_name(f"{where}.verifiers[{index}].name", each.name)
        if max(each.allowed, each.denied) > MAX_COUNT:
            raise UsageError(f"{where}.verifiers[{index}]: a count is above {MAX_COUNT}")
        read.verifiers.add(
            name=each.name,
            allowed=each.allowed,
            denied=each.denied,
            reported_at_ms=min(each.reported_at_ms, latest_ms),
        )
    return read


def _read_late(where: str, message: pb.LateUse, host: str, latest_ms: int) -> LateUse:
    if len(message.session_id) != SESSION_BYTES:
        raise UsageError(f"{where}.session_id: must be {SESSION_BYTES} bytes")
    _require_name(f"{where}.verifier", message.verifier)
    return LateUse(
        message.session_id, host, message.verifier, read_late(message.use, f"{where}.use", latest_ms)
    )


def _require_name(where: str, name: str) -> None:
    if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise UsageError(f"{where}: is 1 to {MAX_NAME_BYTES} bytes")

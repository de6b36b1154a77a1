"""Made-up observations of a verifier."""

from __future__ import annotations

from sessauth.usage import SessionUsage
from sessauth.usage.session_usage import BlockObservation, SessionObservation, UseAfterEnd

AT = 1_700_000_000_000


def block_id(name: str) -> bytes:
    """Return an id of 32 bytes."""
    return name.encode().ljust(32, b".")


def block(
    name: str, parent: str = "", *, index: int = 0, calls: int = 1, at_ms: int = AT
) -> BlockObservation:
    """Return a block that was seen in so many calls, all allowed."""
    above = block_id(parent) if parent else b""
    return BlockObservation(block_id(name), above, index, at_ms, at_ms, calls, calls)


def observed(
    session_id: bytes, *blocks: BlockObservation, late: UseAfterEnd | None = None
) -> SessionObservation:
    """Return the observation of a session: the calls of its root blocks."""
    calls = sum(each.calls for each in blocks if not each.index)
    last = max((each.last_ms for each in blocks), default=0)
    found = SessionObservation(session_id, calls, 0, last, blocks={each.block_id: each for each in blocks})
    if late is not None:
        found.late[late.key] = late
    return found


def claimed(count: int = 1, at_ms: int = AT) -> UseAfterEnd:
    """Return late uses that are only claimed."""
    return UseAfterEnd((), True, count, at_ms, at_ms)


def usage(*resources: str, arguments: bytes = b"{}") -> SessionUsage:
    """Return a usage record of calls that read resources."""
    record = SessionUsage()
    for resource in resources:
        record.observe("read", resource, arguments, at_ms=AT)
    return record

"""Options of recording."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from ...errors import UsageError
from ...limits import MAX_JSON_BYTES
from ..write.stream import LEAST_ROTATE_BYTES, StreamOptions

STOP_MINTING: Final = "stop_minting"
DENY: Final = "deny"
CONTINUE: Final = "continue"
WHEN_FULL: Final = (STOP_MINTING, DENY, CONTINUE)
# A call with the largest arguments must fit; otherwise one such call causes a loss.
LEAST_QUEUE_BYTES: Final = 2 * MAX_JSON_BYTES


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """An audit stream of one process. Times in ms, sizes in bytes.

    All denials are recorded, and the share ``sample_allows`` (0.0 to 1.0) of the allows. At most
    ``queue_bytes`` of decisions wait for the recorder, and as many of records for a disk that fails; further
    decisions are lost and counted. ``when_full`` applies while decisions are lost or the stream can't be
    written: ``stop_minting`` (a server gives no authority; elsewhere as ``continue``),
    ``deny`` (no call is allowed) or ``continue``. The rest is
    :class:`~sessauth.audit.write.stream.StreamOptions`.
    """

    dir: str | os.PathLike[str]
    sample_allows: float = 1.0
    queue_bytes: int = 16 << 20
    when_full: str = STOP_MINTING
    rotate_bytes: int = 64 << 20
    fsync_ms: int = 1_000
    checkpoint_ms: int = 10_000

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of range."""
        if not os.fspath(self.dir):
            raise UsageError("audit.dir: is required, the folder of the audit streams")
        if not 0.0 <= self.sample_allows <= 1.0:
            raise UsageError("audit.sample_allows: must be 0.0 to 1.0")
        if self.queue_bytes < LEAST_QUEUE_BYTES:
            raise UsageError(f"audit.queue_bytes: must be at least {LEAST_QUEUE_BYTES}")
        if self.rotate_bytes < LEAST_ROTATE_BYTES:
            raise UsageError(f"audit.rotate_bytes: must be at least {LEAST_ROTATE_BYTES}")
        if self.fsync_ms < 0:
            raise UsageError("audit.fsync_ms: must be 0 or more")
        if self.checkpoint_ms < 1:
            raise UsageError("audit.checkpoint_ms: must be at least 1")
        if self.when_full not in WHEN_FULL:
            raise UsageError(f"audit.when_full: must be one of {', '.join(WHEN_FULL)}")

    @property
    def stream(self) -> StreamOptions:
        """The options of the stream itself."""
        return StreamOptions(self.rotate_bytes, self.fsync_ms, self.checkpoint_ms)

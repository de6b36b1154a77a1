"""Section ``[audit]``: which decisions are recorded, where, and what follows when they can't be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...audit.recording.options import STOP_MINTING, AuditOptions
from ...errors import ConfigError, UsageError


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Off unless ``enabled``. Times in ms, sizes in bytes; the folder is ``audit`` in the home folder."""

    enabled: bool = False
    dir: str = ""
    # Of the allows; every denial is recorded.
    sample_allows: float = 1.0
    # Of notes that may wait to be recorded, and of records that may wait for the disk; in each process.
    queue_bytes: int = 16 << 20
    when_full: str = STOP_MINTING
    rotate_bytes: int = 64 << 20
    fsync_ms: int = 1_000
    checkpoint_ms: int = 10_000

    def options(self, folder: Path) -> AuditOptions:
        """Return what a stream in ``folder`` is written by. Raises UsageError that names the key."""
        return AuditOptions(
            folder,
            sample_allows=self.sample_allows,
            queue_bytes=self.queue_bytes,
            when_full=self.when_full,
            rotate_bytes=self.rotate_bytes,
            fsync_ms=self.fsync_ms,
            checkpoint_ms=self.checkpoint_ms,
        )


def check(settings: AuditSettings) -> None:
    """Refuse what is out of range. Raises :class:`ConfigError`."""
    try:
        settings.options(Path("audit"))
    except UsageError as error:
        raise ConfigError(str(error)) from None

"""Section ``[usage]``: what verifiers saw of sessions, and how much of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError

_LEAST_ONE: Final = ("max_sessions", "max_bytes", "max_session_bytes", "max_stored_bytes", "keep_ms")


@dataclass(frozen=True, slots=True)
class UsageSettings:
    """Sizes in bytes, times in ms; the folder is ``usage`` in the home folder."""

    # Tell which blocks were seen, and uses after the end, also where nothing else takes notes of decisions.
    census: bool = False
    # Values of arguments of allowed calls are kept too, for reports: in memory and in files of mode 0600.
    enabled: bool = False
    dir: str = ""
    # In memory, and as many again in files.
    max_sessions: int = 4_096
    max_bytes: int = 64 << 20
    max_session_bytes: int = 4 << 20
    max_stored_bytes: int = 256 << 20
    # How long the file of a session that ended is kept.
    keep_ms: int = 30 * 86_400_000


def check(settings: UsageSettings) -> None:
    """Refuse what is out of range. Raises :class:`ConfigError`."""
    for name in _LEAST_ONE:
        if getattr(settings, name) < 1:
            raise ConfigError(f"usage.{name}: must be at least 1")

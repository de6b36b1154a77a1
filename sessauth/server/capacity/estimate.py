"""Formulas from a load to the room that it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ...state import layout
from ..config.config import Config
from .trial import RowSizes

DAY_S: Final = 86_400
_MIB: Final = 1 << 20
# Pages that a commit copies, and those that readers still hold: a quarter of the rows.
SPARE_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Load:
    """A load on one host. ``changes_per_session`` counts its opening, its end, and what is in between."""

    sessions_per_second: float
    decisions_per_second: float = 0.0
    session_ttl_s: float = 3_600.0
    changes_per_session: float = 2.0
    audit_days: float = 30.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """The room and the work of a load: bytes, and fsyncs a second if no change shares one."""

    stored_sessions: int
    state_bytes: int
    map_size_bytes: int
    audit_bytes_per_day: int
    disk_bytes: int
    memory_bytes: int
    fsyncs: float


def state_bytes(sizes: RowSizes, *, sessions: float, changes: float, outcomes: float) -> float:
    """Return the bytes of a state with so many stored sessions, changes in its log, and request ids."""
    logged, ids = min(changes, layout.KEEP_CHANGES), min(outcomes, layout.KEEP_OUTCOMES)
    return sessions * sizes.session + logged * sizes.change + ids * sizes.outcome


def estimate(load: Load, sizes: RowSizes, config: Config) -> Capacity:
    """Return the room that a load takes once it has lasted for as long as rows are stored.

    A session's rows stay from its opening until seven days past its hard end, whenever it was ended. The log
    has its last 100,000 changes. A request id stays for a day, or until 500,000 later ones were made.
    """
    changes = load.sessions_per_second * load.changes_per_session
    stored = load.sessions_per_second * (load.session_ttl_s + layout.KEEP_ENDED_MS / 1000)
    state = state_bytes(
        sizes,
        sessions=stored,
        changes=layout.KEEP_CHANGES if changes else 0,
        outcomes=changes * layout.KEEP_OUTCOMES_MS / 1000,
    )
    # Above the mark of 85 % nothing that gives authority is written.
    size = max(layout.MAP_SIZE // 16, state * (1 + SPARE_SHARE) / layout.FULL_SHARE)
    map_size = math.ceil(size / (16 * _MIB)) * 16 * _MIB
    decisions = load.decisions_per_second
    audit = DAY_S * (decisions * sizes.audit_decision + changes * sizes.audit_change)
    return Capacity(
        stored_sessions=math.ceil(stored),
        state_bytes=math.ceil(state),
        map_size_bytes=map_size,
        audit_bytes_per_day=math.ceil(audit),
        disk_bytes=map_size + math.ceil(audit * load.audit_days),
        memory_bytes=_memory(sizes, config),
        fsyncs=changes,
    )


def _memory(sizes: RowSizes, config: Config) -> int:
    """Return the memory of all processes with full caches and queues, in bytes."""
    audit = 2 * config.audit.queue_bytes if config.audit.enabled else 0
    each = sizes.process + config.limits.cache_bytes + audit
    usage = config.usage.max_bytes if config.usage.enabled else 0
    return (config.server.workers + 1) * each + config.limits.writer_cache_bytes + usage

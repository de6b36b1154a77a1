"""Records of the state folder beside sessions: the log's head, results of changes, incarnations.

Each class mirrors one message of ``log_record.proto``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .._fast.codec.record import Record


@dataclass(frozen=True, slots=True)
class Head(Record):
    """A position in the log. ``revision`` moves with each applied change, ``seq`` with each logged one.

    A session whose row is older than ``incarnation_revision`` ended then.
    """

    format: int
    min_reader_format: int
    cluster_id: bytes
    incarnation: bytes
    revision: int = 0
    seq: int = 0
    clock_floor_ms: int = 0
    keys_generation: int = 0
    digest: bytes = b""
    incarnation_revision: int = 0


@dataclass(frozen=True, slots=True)
class ChangeResult(Record):
    """The result of a logged change. An empty ``rejection`` means applied.

    ``revision`` is the one at which it is visible, or for a rejection at which it was evaluated. ``epoch`` is
    the session's after a change of its life, 0 for other changes. ``purged_id`` is the session of a purge.
    """

    revision: int
    rejection: str = ""
    epoch: int = 0
    incarnation: bytes = b""
    purged_id: bytes = b""


@dataclass(frozen=True, slots=True)
class SessionTrace(Record):
    """The remainder of a purged session: its owner, and its ancestors, nearest first."""

    owner: str = ""
    ancestor_ids: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class IncarnationRecord(Record):
    """A new incarnation: when, and why, it ended each session that had not ended.

    ``previous_revision`` is the revision at which the one before it began, 0 if there was none.
    """

    at_ms: int
    reason: str = ""
    previous_revision: int = 0

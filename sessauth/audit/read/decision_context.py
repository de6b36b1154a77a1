"""One decision with all that the log knows around it: what was judged, by which token, what changed when."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from ..._fast.codec.protobuf import WireError
from ...decisions.decision import DecisionBase
from ...decisions.explanation import explain_blocks
from ...decisions.reason_texts import MEANINGS
from ...errors import NotFound, UsageError
from ...limits import MAX_ANCESTORS
from ...model.change import Change, ChangeKind
from ...reasons import Level, Reason, Stage
from ...scopes.scope import Scope
from ...tokens.inspection import BlockInfo
from .query import Query, find
from .reader import Entry, FolderReader

_BEFORE: Final = 8
_AFTER: Final = 4


@dataclass(frozen=True, slots=True, repr=False)
class ContextDecision(DecisionBase):
    """A decision as the log has it. What the log does not say is empty, or -1 for a position."""

    allowed: bool
    reason: Reason
    stage: Stage
    level: Level
    index: int
    scope: int
    clause: int
    argument: str
    matched_index: int
    matched_scope: int
    session_id: bytes
    epoch: int
    block_ids: tuple[bytes, ...]
    revision: int
    decision_id: bytes
    view_age_ms: int = 0
    expires_at_ms: int = 0

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Read the record of a decision."""
        at = record.get("at") or {}
        matched = record.get("matched") or (-1, -1)
        return cls(
            allowed=record.get("allowed") is True,
            reason=Reason.__members__.get(str(record.get("reason")), Reason.UNSPECIFIED),
            stage=Stage.__members__.get(str(record.get("stage")).upper(), Stage.NONE),
            level=_level(at.get("level")),
            index=_position(at.get("index")),
            scope=_position(at.get("scope")),
            clause=_position(at.get("clause")),
            argument=str(at.get("argument", "")),
            matched_index=_position(matched[0]),
            matched_scope=_position(matched[1]),
            session_id=_bytes(record.get("session")),
            epoch=_number(record.get("epoch")),
            block_ids=tuple(map(_bytes, record.get("blocks") or ())),
            revision=_number(record.get("revision")),
            decision_id=_bytes(record.get("id")),
        )


@dataclass(frozen=True)
class DecisionContext:
    """A decision, the blocks of its token if the log has them, and the changes of its session around it.

    ``ceilings`` are the layers that the call was held to, as far as the log has the changes that made them.
    """

    entry: Entry
    decision: ContextDecision
    blocks: tuple[BlockInfo, ...]
    ceilings: Sequence[Sequence[Scope]]
    changes: tuple[Entry, ...]

    @property
    def meaning(self) -> str:
        """What the reason means, in a sentence."""
        return MEANINGS[self.decision.reason]

    @cached_property
    def explanation(self) -> str:
        """What failed, where, and what would have been allowed, in a line."""
        return explain_blocks(self.decision, self.blocks, self.ceilings)


def tell(reading: FolderReader, decision_id: bytes) -> DecisionContext:
    """Return the story of a decision.

    Raises:
        NotFound: if the log has no decision of this id.
        StateUnusable: if the folder can't be read.
    """
    entry = next(find(reading, Query(decision=decision_id.hex())), None)
    if entry is None:
        message = (
            f"the log has no decision {decision_id.hex()}; allows are only sampled with sample_allows below 1"
        )
        raise NotFound(message, "NOT_FOUND", "decision_id")
    decision = ContextDecision.of(entry.record)
    session = str(entry.record.get("session") or entry.record.get("claimed") or "")
    changes = list(find(reading, Query(session=session, change=""))) if session else []
    changes = [each for each in changes if each.kind == "change"]
    before = [each for each in changes if _number(each.record.get("revision")) <= decision.revision]
    after = changes[len(before) :]
    return DecisionContext(
        entry,
        decision,
        _blocks(reading, entry),
        _ceilings(reading, decision),
        (*before[-_BEFORE:], *after[:_AFTER]),
    )


def _blocks(reading: FolderReader, entry: Entry) -> tuple[BlockInfo, ...]:
    """Return what the blocks of the token say, () if the stream has no record of the chain."""
    ids = entry.record.get("blocks") or ()
    if not ids:
        return ()
    for each in reading.entries(b'"kind":"chain"', f'"{ids[-1]}"'.encode(), stream=entry.stream):
        told = each.record.get("blocks") or ()
        try:
            if each.kind != "chain" or [block["id"] for block in told] != ids:
                continue
            payloads = [base64.b64decode(block["payload"], validate=True) for block in told]
            return tuple(
                BlockInfo.read(index, bytes.fromhex(ids[index]), payload)
                for index, payload in enumerate(payloads)
            )
        except (KeyError, TypeError, ValueError, WireError, UsageError):
            return ()
    return ()


def _ceilings(reading: FolderReader, decision: ContextDecision) -> list[list[Scope]]:
    """Return the layers that a session's calls are held to: its own, then its ancestors'."""
    layers: list[list[Scope]] = []
    session = decision.session_id
    for _ in range(MAX_ANCESTORS + 1):
        parent = b""
        made = Query(session=session.hex()) if session else None
        for entry in find(reading, made) if made else ():
            late = _number(entry.record.get("revision")) > decision.revision
            if entry.kind != "change" or entry.record.get("outcome") != "APPLIED" or late:
                continue
            try:
                change = Change.decode(base64.b64decode(str(entry.record.get("body")), validate=True))
                if change.kind in (ChangeKind.OPEN_SESSION, ChangeKind.NARROW_SESSION):
                    ceiling: Any = change.body["ceiling"]
                    layers.append([Scope.from_record(scope) for scope in ceiling["scopes"]])
                    parent = _bytes(change.body.get("parent_id")) or parent
            except (KeyError, TypeError, WireError, UsageError, binascii.Error):
                return layers
        session = parent
    return layers


def _level(value: object) -> Level:
    if isinstance(value, int):
        return Level(value) if value in set(Level) else Level.NONE
    return Level.__members__.get(str(value).upper(), Level.NONE)


def _position(value: object) -> int:
    return value if isinstance(value, int) else -1


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""

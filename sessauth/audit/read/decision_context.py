"""One decision with its context in the log: its token, and the changes of its session."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ..._fast._check import WireError
from ...decisions.decision import REASON_TEXTS, explain_blocks
from ...errors import NotFound, UsageError
from ...limits import MAX_ANCESTORS
from ...model.change import Change, ChangeKind
from ...scopes.scope import Scope
from ...tokens.block_draft import BlockInfo
from .query import Entry, FolderReader, LoggedDecision, Query, find

_BEFORE: Final = 8
_AFTER: Final = 4


@dataclass(frozen=True)
class DecisionContext:
    """A decision, the blocks of its token if the log has them, and the changes of its session around it.

    ``ceilings`` are the layers used to check the call, as far as the log has their changes.
    """

    entry: Entry
    decision: LoggedDecision
    blocks: tuple[BlockInfo, ...]
    ceilings: Sequence[Sequence[Scope]]
    changes: tuple[Entry, ...]

    @property
    def meaning(self) -> str:
        """The meaning of the reason, in a sentence."""
        return REASON_TEXTS[self.decision.reason]

    @cached_property
    def explanation(self) -> str:
        """The failure, its place, and an allowed alternative, in a line."""
        return explain_blocks(self.decision, self.blocks, self.ceilings)


def load_context(reading: FolderReader, decision_id: bytes) -> DecisionContext:
    """Return a decision with its context.

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
    decision = LoggedDecision.of(entry.record)
    session = str(entry.record.get("session") or entry.record.get("claimed") or "")
    changes = list(find(reading, Query(session=session, change=""))) if session else []
    changes = [each for each in changes if each.kind == "change"]
    before = [each for each in changes if _revision(each) <= decision.revision]
    after = changes[len(before) :]
    return DecisionContext(
        entry,
        decision,
        _blocks(reading, entry),
        _ceilings(reading, decision),
        (*before[-_BEFORE:], *after[:_AFTER]),
    )


def _blocks(reading: FolderReader, entry: Entry) -> tuple[BlockInfo, ...]:
    """Return the blocks of the token, () if the stream has no record of the chain."""
    ids = entry.record.get("blocks") or ()
    if not ids:
        return ()
    for each in reading.entries(b'"kind":"chain"', f'"{ids[-1]}"'.encode(), stream=entry.stream):
        blocks = each.record.get("blocks") or ()
        try:
            if each.kind != "chain" or [block["id"] for block in blocks] != ids:
                continue
            payloads = [base64.b64decode(block["payload"], validate=True) for block in blocks]
            return tuple(
                BlockInfo.read(index, bytes.fromhex(ids[index]), payload)
                for index, payload in enumerate(payloads)
            )
        except (KeyError, TypeError, ValueError, WireError, UsageError):
            return ()
    return ()


def _ceilings(reading: FolderReader, decision: LoggedDecision) -> list[list[Scope]]:
    """Return the layers that limit a session's calls: its own, then its ancestors'."""
    layers: list[list[Scope]] = []
    session = decision.session_id
    for _ in range(MAX_ANCESTORS + 1):
        parent = b""
        for entry in find(reading, Query(session=session.hex())) if session else ():
            late = _revision(entry) > decision.revision
            if entry.kind != "change" or entry.record.get("outcome") != "APPLIED" or late:
                continue
            try:
                change = Change.decode(base64.b64decode(str(entry.record.get("body")), validate=True))
                if change.kind in (ChangeKind.OPEN_SESSION, ChangeKind.NARROW_SESSION):
                    body: Any = change.body
                    # A narrowing that only ends observe mode has no scopes.
                    if scopes := body["ceiling"]["scopes"]:
                        layers.append([Scope.from_record(scope) for scope in scopes])
                    parent = body.get("parent_id") or parent
            except (KeyError, TypeError, WireError, UsageError, binascii.Error):
                return layers
        session = parent
    return layers


def _revision(entry: Entry) -> int:
    revision = entry.record.get("revision")
    return revision if isinstance(revision, int) else 0

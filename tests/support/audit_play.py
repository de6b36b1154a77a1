"""A state in memory, a kernel that judges by it, and an audit stream that has it all (docs/audit.md)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sessauth._fast._check import Chain, Checker, Decision, View
from sessauth._fast.codec.errors import FormError
from sessauth.audit import layout as audit_layout
from sessauth.audit.write.stream import AuditStream, StreamOptions
from sessauth.model.change import Change, ChangeOutcome
from sessauth.state import layout
from tests.oracle.model import OracleRequest
from tests.support.changes import NOW, MemoryRows
from tests.support.compare import judge_request

AUDIENCE = "gateway"
_OPTIONS = StreamOptions(fsync_ms=60_000, checkpoint_ms=60_000)


class _Transaction:
    def __init__(self, rows: MemoryRows) -> None:
        self._rows = rows

    def id(self) -> int:
        return self._rows.current.seq

    def get(self, key: bytes, default: None, db: str) -> bytes | None:
        if db == layout.META:
            return self._rows.current.encode()
        return self._rows.get(db, key)

    def abort(self) -> None:
        pass


class _Source:
    sessions, leases, revoked = layout.SESSIONS, layout.LEASES, layout.REVOKED
    keys, meta = layout.KEYS, layout.META

    def __init__(self, rows: MemoryRows) -> None:
        self._rows = rows
        self.brake = bytearray(64)

    def begin(self) -> _Transaction:
        return _Transaction(self._rows)


class Play:
    """Does changes and checks, and writes them into a stream of its own in an audit folder."""

    def __init__(self, folder: Path, incarnation: bytes = b"i" * 16) -> None:
        """Begin a stream; plays of one folder need incarnations of their own (16 bytes)."""
        self.rows = MemoryRows()
        self.source = _Source(self.rows)
        self.checker = Checker(View(self.source), audience=AUDIENCE)
        self.arguments: list[bytes] = []
        self.stream = AuditStream.open_new(
            folder,
            process="control",
            audience=AUDIENCE,
            cluster_id=b"c" * 16,
            incarnation=incarnation,
            options=_OPTIONS,
        )
        self._recorded_chains: set[tuple[bytes, ...]] = set()
        self._bodies: list[bytes] = []

    def do(self, change: Change, at_ms: int = NOW, *, recorded: bool = True) -> ChangeOutcome:
        """Apply a change, and record it unless ``recorded`` is False."""
        outcome = self.rows.do(change, at_ms)
        if recorded:
            self.note(
                "change",
                at_ms=at_ms,
                seq=outcome.seq,
                revision=outcome.revision,
                id=change.id,
                change=change.kind.name,
                session=change.session_id.hex(),
                actor=change.actor,
                outcome=outcome.rejection or "APPLIED",
                body=base64.b64encode(change.stamped(at_ms).encode()).decode(),
            )
        return outcome

    def renew(self, session_id: bytes, deadline_ms: int) -> None:
        """Renew a lease, which no log records."""
        self.rows.tables[layout.LEASES][session_id] = deadline_ms.to_bytes(8, "big")

    def check(self, token: bytes, request: OracleRequest, now_ms: int = NOW, **options: Any) -> Decision:
        """Judge a call and record it."""
        decision: Decision = judge_request(self.checker, token, request, now_ms=now_ms, **options)
        self.record(token, request, decision)
        return decision

    def record(self, token: bytes, request: OracleRequest, decision: Decision) -> None:
        """Record a decision."""
        if request.arguments:
            self.arguments.append(request.arguments)
        named = bool(decision.session_id)
        if named and decision.block_ids not in self._recorded_chains:
            self._recorded_chains.add(decision.block_ids)
            payloads = Chain.parse(token).payloads
            self.note(
                "chain",
                at_ms=decision.checked_at_ms,
                blocks=[
                    {"id": block_id.hex(), "payload": base64.b64encode(payload).decode()}
                    for block_id, payload in zip(decision.block_ids, payloads, strict=True)
                ],
            )
        who: dict[str, Any] = {"claimed": _claimed(token)}
        if named:
            who = {
                "session": decision.session_id.hex(),
                "epoch": decision.epoch,
                "blocks": [block_id.hex() for block_id in decision.block_ids],
            }
        at = {name: getattr(decision, name) for name in ("index", "scope", "clause", "argument")}
        somewhere = decision.level or decision.argument
        self.note(
            "decision",
            at_ms=decision.checked_at_ms,
            id=decision.decision_id.hex(),
            allowed=decision.allowed,
            reason=decision.reason.name,
            stage=decision.stage.name,
            **who,
            revision=decision.revision,
            action=_text(request.action),
            resource=_text(request.resource),
            arguments=self.stream.arguments_key.digest(request.arguments),
            audience=request.audience,
            source=request.source,
            matched=[decision.matched_index, decision.matched_scope] if decision.matched_index >= 0 else None,
            at={"level": decision.level, **at} if somewhere else None,
            token=blake2b(token, digest_size=32).hexdigest()[:32],
            **({"token_only": True} if request.token_only else {}),
            sampled=True,
        )

    def note(self, kind: str, **record: Any) -> None:
        """Record anything."""
        self._bodies.append(audit_layout.body(kind, record))

    def shuffle(self, shuffle: Callable[[list[bytes]], None]) -> None:
        """Write what was recorded in another order, as processes that write apart do."""
        shuffle(self._bodies)

    def close(self) -> None:
        """Write and end the stream."""
        self.stream.append(b"".join(self._bodies))
        self.stream.close()


def _text(data: bytes) -> str:
    return data[:1024].decode("utf-8", "replace")


def _claimed(token: bytes) -> str:
    try:
        return Chain.parse(token).session_id.hex()
    except FormError:
        return ""

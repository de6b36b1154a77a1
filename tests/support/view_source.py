"""An in-memory stand-in for the LMDB state that the kernel's view reads, filled from an oracle's view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sessauth._fast import _check as kernel
from tests.oracle.model import OracleSession, OracleView
from tests.support.token_forger import Ceilings, value_record

Rows = dict[bytes, bytes]


class _Transaction:
    """A read transaction: what was there when it began."""

    def __init__(self, number: int) -> None:
        self._number = number

    def id(self) -> int:
        """The number of the last write that it sees."""
        return self._number

    def get(self, key: bytes, default: bytes | None = None, db: Rows | None = None) -> bytes | None:
        """The row of a key, or the default."""
        assert db is not None
        return db.get(bytes(key), default)

    def abort(self) -> None:
        """End it; there is nothing to release."""


class MemorySource:
    """Rows by database, a brake page, and a number that moves with each ``load``."""

    def __init__(self) -> None:
        self.sessions: Rows = {}
        self.leases: Rows = {}
        self.revoked: Rows = {}
        self.keys: Rows = {}
        self.meta: Rows = {}
        self.brake = bytearray(64)
        self._number = 0

    def begin(self) -> _Transaction:
        """Begin a read transaction."""
        return _Transaction(self._number)

    def load(self, view: OracleView, ceilings: Ceilings, revoked_session: bytes = b"") -> None:
        """Replace all rows. Revoked block ids stand under ``revoked_session``, or else every session."""
        self._number += 1
        for rows in (self.sessions, self.leases, self.revoked, self.keys, self.meta):
            rows.clear()
        for session in view.sessions.values():
            of_it = view.revoked if revoked_session in (b"", session.id) else frozenset()
            record = _session(session, ceilings.get(session.id, ()), len(of_it), view.revision)
            self.sessions[session.id] = kernel.encode_message("SessionRecord", record)
            if session.lease_deadline_ms is not None:
                self.leases[session.id] = session.lease_deadline_ms.to_bytes(8, "big")
            for block_id in of_it:
                self.revoked[session.id + block_id] = view.revision.to_bytes(8, "big")
        for key in view.keys.values():
            record = {
                "id": key.id,
                "public_key": key.public_key,
                "status": key.status,
                "owner": key.owner,
                "added_at_ms": 1,
                "retired_at_ms": key.retired_at_ms,
                "revision": view.revision,
            }
            self.keys[key.id] = kernel.encode_message("KeyRecord", record)
        self.meta[b"head"] = kernel.encode_message("Head", self._head(view))
        self.brake[0] = int(view.braked)

    def _head(self, view: OracleView) -> dict[str, Any]:
        return {
            "format": 1,
            "min_reader_format": 1,
            "cluster_id": bytes(15) + b"\x01",
            "incarnation": bytes(15) + b"\x02",
            "revision": view.revision,
            "seq": self._number,
            "keys_generation": self._number,
            "digest": bytes(32),
        }


def _session(
    session: OracleSession, layers: Sequence[Sequence[Mapping[str, Any]]], revoked: int, revision: int
) -> dict[str, Any]:
    return {
        "id": session.id,
        "subject": "subject",
        "purpose": "purpose",
        "owner": session.owner,
        "parent_id": session.parent_id,
        "status": session.status,
        "epoch": 1,
        "ceilings": [{"scopes": list(layer)} for layer in layers],
        "facts": [
            {"name": name, "value": value_record(value), "visible": visible}
            for name, (value, visible) in sorted(session.facts.items())
        ],
        "opened_at_ms": 1,
        "expires_at_ms": session.expires_at_ms,
        "lease_ms": 0 if session.lease_deadline_ms is None else 60_000,
        "issuer_key_ids": list(session.issuer_key_ids),
        "observe": session.observe,
        "revoked_count": revoked,
        "end_cause": session.end_cause,
        "revision": revision,
    }

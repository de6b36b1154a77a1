"""What a state folder knows of a token, and checks by it, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..decision_base import DecisionBase
from ..limits import MAX_ANCESTORS
from ..scope import Scope
from ..state.lmdb_view import StateReader
from ..state.rows import TxnRows
from ..token import Token


@dataclass(frozen=True, slots=True)
class Known:
    """The issuer keys by id, the revoked blocks of a token by index, its session's status."""

    keys: dict[bytes, bytes]
    revoked: tuple[int, ...]
    session_status: str


@contextmanager
def reading(state: Path) -> Iterator[TxnRows]:
    """Open a state folder and give one consistent view of its rows. Raises StateUnusable."""
    reader = StateReader.open(state)
    try:
        with reader.reading() as txn:
            yield TxnRows(txn, reader.tables)
    finally:
        reader.close()


def look_up(state: Path, token: Token) -> Known:
    """Return what a state folder knows of a token. Raises StateUnusable."""
    with reading(state) as rows:
        keys = {key.id: key.public_key for key in map(rows.key, rows.key_ids()) if key is not None}
        revoked = tuple(
            index
            for index, block_id in enumerate(token.block_ids)
            if rows.is_revoked(token.session_id, block_id)
        )
        session = rows.session(token.session_id)
    return Known(keys, revoked, session.status.name if session else "UNKNOWN")


def ceilings(rows: TxnRows, session_id: bytes) -> list[list[Scope]]:
    """Return the layers that a call of a session is held to: its own, then its ancestors'."""
    layers: list[list[Scope]] = []
    for _ in range(MAX_ANCESTORS + 1):
        session = rows.session(session_id) if session_id else None
        if session is None:
            break
        layers += [[Scope.from_record(scope) for scope in layer] for layer in session.ceilings]
        session_id = session.parent_id
    return layers


def embedded_check(
    state: Path, token: Token, action: str, resource: str, call: dict[str, Any]
) -> tuple[DecisionBase, str]:
    """Judge a call by a state folder; return the decision and its explanation. Raises StateUnusable."""
    from ..embedded import Verifier

    with Verifier.embedded(state, audience=call.pop("audience")) as verifier:
        decision = verifier.check(token, action, resource, **call)
        layers = verifier.ceilings(token.session_id)
    return decision, decision.explain(token, layers)

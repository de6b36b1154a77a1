"""What a state folder knows of a token, and checks by it, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..decisions.decision import DecisionBase
from ..decisions.survey import Candidate, Verdicts
from ..limits import MAX_ANCESTORS
from ..scopes.scope import Scope
from ..state.host.proof_reader import ProofReader
from ..state.lmdb.reader import StateReader
from ..state.lmdb.rows import TxnRows
from ..tokens.token import Token
from ..verifier.verifier import Verifier


@dataclass(frozen=True, slots=True)
class TokenStateInfo:
    """The issuer keys by id, the status of the token's, its revoked blocks by index, its session's status."""

    keys: dict[bytes, bytes]
    key_status: str
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


def look_up(state: Path, token: Token) -> TokenStateInfo:
    """Return what a state folder knows of a token. Raises StateUnusable."""
    with reading(state) as rows:
        found = [key for key in map(rows.key, rows.key_ids()) if key is not None]
        issuer = token.inspect().issuer_key_id
        revoked = tuple(
            index
            for index, block_id in enumerate(token.block_ids)
            if rows.is_revoked(token.session_id, block_id)
        )
        session = rows.session(token.session_id)
    return TokenStateInfo(
        {key.id: key.public_key for key in found},
        next((key.status.name for key in found if key.id == issuer), ""),
        revoked,
        session.status.name if session else "UNKNOWN",
    )


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
    reader = StateReader.open(state)
    try:
        verifier = Verifier(reader)
        ProofReader(state, verifier)
        decision = verifier.check(token, action, resource, **call)
        with reader.reading() as txn:
            layers = ceilings(TxnRows(txn, reader.tables), decision.session_id)
    finally:
        reader.close()
    return decision, decision.explain(token, layers)


def embedded_survey(
    state: Path, token: Token, candidates: Sequence[Candidate], asked: dict[str, Any]
) -> Verdicts:
    """Judge by a state folder which calls a token could make. Raises StateUnusable."""
    reader = StateReader.open(state)
    try:
        return Verifier(reader).list_allowed(token, candidates, **asked)
    finally:
        reader.close()

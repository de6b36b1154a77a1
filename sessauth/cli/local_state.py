"""Queries and checks on a state folder, without a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clock import SystemClock
from ..decisions.decision import DecisionBase
from ..decisions.tool_catalog import Candidate, Verdicts
from ..model.session import ceiling_layers
from ..state.host.proof_keys import ProofReader
from ..state.lmdb.effective_status import effective_status, judged_at_ms
from ..state.lmdb.reader import StateReader
from ..state.lmdb.rows import TxnRows
from ..tokens.token import Token
from ..verifier.verifier import Verifier


@dataclass(frozen=True, slots=True)
class TokenStateInfo:
    """State of a token: issuer keys by id, status of its key and session, indices of its revoked blocks."""

    keys: dict[bytes, bytes]
    key_status: str
    revoked: tuple[int, ...]
    session_status: str


@contextmanager
def reading(state: Path) -> Iterator[TxnRows]:
    """Open a state folder and yield one consistent view of its rows. Raises StateUnusable."""
    with closing(StateReader.open(state)) as reader, reader.reading() as txn:
        yield TxnRows(txn, reader.tables)


def token_state(state: Path, token: Token) -> TokenStateInfo:
    """Return the state of a token in a state folder. Raises StateUnusable."""
    with reading(state) as rows:
        keys = {key.id: key for key in map(rows.key, rows.key_ids()) if key is not None}
        revoked = tuple(
            index
            for index, block_id in enumerate(token.block_ids)
            if rows.is_revoked(token.session_id, block_id)
        )
        now_ms = judged_at_ms(rows, SystemClock().now_ms())
        session = effective_status(rows, token.session_id, now_ms)
    issuer_key = keys.get(token.issuer_key_id)
    return TokenStateInfo(
        {key.id: key.public_key for key in keys.values()},
        issuer_key.status.name if issuer_key else "",
        revoked,
        session.status.name if session else "UNKNOWN",
    )


def embedded_check(
    state: Path, token: Token, action: str, resource: str, call: dict[str, Any]
) -> tuple[DecisionBase, str]:
    """Check a call by a state folder; return the decision and its explanation. Raises StateUnusable."""
    with closing(StateReader.open(state)) as reader:
        verifier = Verifier(reader)
        ProofReader(state, verifier)
        decision = verifier._check(token, action, resource, **call)
        with reader.reading() as txn:
            layers = list(ceiling_layers(decision.session_id, TxnRows(txn, reader.tables).session))
    return decision, decision.explain(token, layers)


def embedded_survey(
    state: Path, token: Token, candidates: Sequence[Candidate], options: dict[str, Any]
) -> Verdicts:
    """List by a state folder the calls that a token could make. Raises StateUnusable."""
    with closing(StateReader.open(state)) as reader:
        return Verifier(reader).list_allowed(token, candidates, **options)

"""The state that checks are measured against: a real state folder, written by the real log."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import tokens
from benchmarks.tokens import AUDIENCE, HOUR_MS
from sessauth.crypto.keys import IssuerKey, KeyStatus
from sessauth.model.change import Change, add_key, end_session, open_session, revoke
from sessauth.model.session import Fact
from sessauth.scopes.scope import Scope
from sessauth.state.lmdb.reader import StateReader
from sessauth.state.writer.state_writer import StateWriter
from sessauth.tokens.token import Issuer
from sessauth.verifier.verifier import DEFAULT_CACHE_BYTES, Verifier

SEED: Final = 20_261_124
CEILING: Final = ("read,write:mcp/** free *", "read,write:files/** free *")
# Sessions that nothing is asked about, and revocations in each session that something is asked about.
BYSTANDERS: Final = 1000
REVOCATIONS: Final = 32
HOT_SESSIONS: Final = 64
# The chain of which a block is revoked, and that block, counted from the root's 1.
REVOKED_CHAIN: Final = 16
REVOKED_BLOCK: Final = 8


@dataclass(frozen=True)
class World:
    """An opened state folder with live sessions, revocations and an active issuer.

    ``revoked`` is a chain of ``session_id`` whose ``REVOKED_BLOCK`` is revoked. ``cache_bytes`` is what each
    verifier's cache may hold.
    """

    state_dir: Path
    reader: StateReader
    key: IssuerKey
    session_id: bytes
    hot_session_ids: tuple[bytes, ...]
    bystander_ids: tuple[bytes, ...]
    unknown_session_id: bytes
    ended_session_id: bytes
    revoked: bytes
    cache_bytes: int = DEFAULT_CACHE_BYTES

    @property
    def issuer(self) -> Issuer:
        """The issuer whose key the state knows as active."""
        return Issuer(self.key)

    def verifier(self) -> Verifier:
        """Return a verifier with an empty cache and an empty view, as ``Verifier.embedded`` makes it."""
        return Verifier(self.reader, audience=AUDIENCE, cache_bytes=self.cache_bytes)

    def close(self) -> None:
        """Close the state."""
        self.reader.close()


def build(folder: Path, *, cache_bytes: int = DEFAULT_CACHE_BYTES) -> World:
    """Write a state folder below ``folder`` and open it as an embedded verifier does."""
    source = random.Random(SEED)
    key = IssuerKey(source.randbytes(32))
    main, unknown, ended = source.randbytes(16), source.randbytes(16), source.randbytes(16)
    hot = tuple(source.randbytes(16) for _ in range(HOT_SESSIONS))
    bystanders = tuple(source.randbytes(16) for _ in range(BYSTANDERS))
    revoked = tokens.chain(Issuer(key), main, REVOKED_CHAIN)
    changes = [add_key("bench-key", key.public_key, status=KeyStatus.ACTIVE)]
    changes += [opening(session_id) for session_id in (main, ended, *hot, *bystanders)]
    changes.append(end_session("bench-end", ended))
    for session_id in (main, *hot):
        blocks = [source.randbytes(32) for _ in range(REVOCATIONS)]
        if session_id == main:
            blocks[-1] = revoked.block_ids[REVOKED_BLOCK - 1]
        changes.append(revoke(f"bench-revoke-{session_id.hex()}", session_id, blocks))
    state_dir = folder / "state"
    with StateWriter.open(state_dir, create=True) as writer:
        write(writer, changes)
    reader = StateReader.open(state_dir)
    return World(
        state_dir, reader, key, main, hot, bystanders, unknown, ended, revoked.data, cache_bytes=cache_bytes
    )


def opening(session_id: bytes) -> Change:
    """Return the change that opens a session of these benchmarks."""
    return open_session(
        f"bench-open-{session_id.hex()}",
        session_id,
        [dict(Scope.parse(text).to_record()) for text in CEILING],
        subject="agent-7",
        purpose="triage of one ticket",
        owner="orchestrator",
        facts=[Fact("case_id", "T-1001", True), Fact("user_present", True, True)],
        labels={"team": "support"},
        ttl_ms=6 * HOUR_MS,
    )


def write(writer: StateWriter, changes: Sequence[Change]) -> None:
    """Write changes, which share their commits; raises Rejected for the first that was not applied."""
    for future in [writer.submit(change) for change in changes]:
        future.result(timeout=60).raise_if_rejected()
